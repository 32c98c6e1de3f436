"""What a table adds up to, and how it is shown: worked by hand on a table of five rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from graft.analysis.receptive_field import Field
from graft.analysis.show import amount, as_csv, as_json, as_text, binary, square
from graft.analysis.table import NOT_CALLED, PICTURE, Analysis, Layer, folded, memory, overwriting, stages

SEEN = Field().window((3, 3))
MAP = (8, 4, 4)  # 512 bytes
ONE, THREE, FOUR, NONE = (1, 1), (3, 3), (4, 4), (0, 0)
TABLE = Analysis(
    "small",
    (3, 4, 4),  # 192 bytes
    (
        Layer("stem.conv", "conv", (PICTURE,), (3, 4, 4), MAP, THREE, ONE, ONE, ONE, 1, 512, 224, 3456, 0, SEEN),
        Layer("stem.relu", "relu", (0,), MAP, MAP, field=SEEN),
        Layer("body.conv", "conv", (1,), MAP, MAP, ONE, ONE, NONE, ONE, 1, 512, 72, 1024, 0, SEEN),
        Layer("body.add", "add", (1, 2), MAP, MAP, activation_bytes=512, field=replace(SEEN, gated=True)),
        Layer("head", "max pool", (3,), MAP, (8, 1, 1), FOUR, FOUR, NONE, activation_bytes=32, pool_operations=128),
    ),
)


def test_totals() -> None:
    assert (TABLE.activation_bytes, TABLE.parameters, TABLE.macs, TABLE.pool_operations) == (1568, 296, 4480, 128)


def test_memory_by_hand() -> None:
    """Most is alive at the sum: both its terms and itself, 3 × 512; the relu writes over the stem's output."""
    need = memory(TABLE, batch=2)
    assert need.infer == 4 * 296 + 2 * 1536
    assert need.train == 4 * 296 * 3 + 2 * (192 + 1568)
    assert memory(TABLE, optimizer_slots=2).train == 4 * 296 * 4 + 192 + 1568


@pytest.mark.parametrize(("batch", "slots"), [(0, 1), (1, -1)])
def test_memory_refuses(batch: int, slots: int) -> None:
    with pytest.raises(ValueError, match="batch must be at least 1"):
        memory(TABLE, batch=batch, optimizer_slots=slots)


def test_folding_keeps_totals_and_edges() -> None:
    short = folded(TABLE)
    assert [x.name for x in short.layers] == ["stem.conv", "body.conv", "body.add", "head"]
    assert [x.inputs for x in short.layers] == [(-1,), (0,), (0, 1), (2,)]
    assert (short.activation_bytes, short.parameters, short.macs) == (1568, 296, 4480)


def test_a_follower_of_a_layer_with_other_readers_stays() -> None:
    twice = replace(TABLE, layers=(*TABLE.layers[:2], replace(TABLE.layers[2], inputs=(0,)), *TABLE.layers[3:]))
    assert [x.name for x in folded(twice).layers][:2] == ["stem.conv", "stem.relu"]


def test_memory_does_not_depend_on_how_a_relu_is_written() -> None:
    written_out = replace(TABLE.layers[1], activation_bytes=512)
    assert overwriting((TABLE.layers[0], written_out))[1].activation_bytes == 0
    other_reader = replace(TABLE.layers[2], inputs=(0,))
    assert overwriting((TABLE.layers[0], written_out, other_reader))[1].activation_bytes == 512


def test_stages() -> None:
    assert [(s.name, s.macs, s.parameters) for s in stages(TABLE)] == [
        ("stem", 3456, 224),
        ("body", 1024, 72),
        ("head", 0, 0),
    ]
    assert [s.name for s in stages(TABLE, ("body", "stem"))] == ["body", "stem"]
    (one,) = stages(TABLE, ("body",))
    assert (one.activation_bytes, one.output_shape) == (1024, (8, 4, 4))
    assert [s.macs for s in stages(TABLE, ("body", "body.conv"))] == [0, 1024]


def test_json_has_these_keys_and_no_others() -> None:
    document = json.loads(as_json(TABLE))
    assert list(document) == ["network", "input", "layers", "totals"]
    assert document["input"] == [3, 4, 4]
    assert document["totals"] == {"activation_bytes": 1568, "parameters": 296, "macs": 4480}
    assert document["layers"][0] == {
        "name": "stem.conv",
        "kind": "conv",
        "input_shape": [3, 4, 4],
        "output_shape": [8, 4, 4],
        "kernel": [3, 3],
        "stride": [1, 1],
        "padding": [1, 1],
        "groups": 1,
        "activation_bytes": 512,
        "parameters": 224,
        "macs": 3456,
        "receptive_field": 3,
    }
    assert document["layers"][1]["kernel"] is None
    assert document["layers"][4]["receptive_field"] is None


def test_what_is_not_counted_is_null_and_named() -> None:
    odd = replace(
        TABLE, layers=(replace(TABLE.layers[0], uncounted="multiply-adds of x are not known"), *TABLE.layers[1:])
    )
    assert json.loads(as_json(odd))["layers"][0]["macs"] is None
    assert "not counted: stem.conv: multiply-adds of x are not known" in as_text(odd)
    idle = replace(TABLE, layers=(*TABLE.layers, Layer("aux", NOT_CALLED, (), (), (), parameters=5)))
    assert "never called, yet with parameters: aux" in as_text(idle)


def test_csv_is_exact() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(TABLE))))
    assert [row["macs"] for row in rows] == ["3456", "0", "1024", "0", "0"]
    assert (rows[0]["kernel"], rows[0]["receptive_field"], rows[0]["centre"]) == ("3×3", "3×3", "1.5×1.5")
    assert (rows[3]["gated"], rows[4]["receptive_field"]) == ("yes", "")


def test_text() -> None:
    text = as_text(TABLE, batch=2)
    lines = text.splitlines()
    assert lines[0] == "small, input 3×4×4"
    assert lines[4].split() == ["stem.conv", "conv", "8×4×4", "3×3", "p1", "0", "224", "3.46", "K", "3", "1", "1.5"]
    assert "multiply-adds 4,480 a picture (8.96 KFLOP, counting two for each)" in text
    assert "memory for 2 pictures: about 4.2 KB to infer" in text


def test_rounding() -> None:
    assert [amount(n) for n in (0, 999, 1000, 72_855_552, 99_680_256, 149_520_384, 15_470_264_320)] == [
        *("0 ", "999 ", "1.00 K", "72.9 M", "99.7 M", "150 M", "15.5 G")
    ]
    assert [binary(n) for n in (512, 2**20, 2_358_432, 3 * 2**30)] == ["0.5 KB", "1.0 MB", "2.2 MB", "3.0 GB"]
    assert [square(p) for p in ((7, 7), (1, 7), (3.5, 3.5), None)] == ["7", "1×7", "3.5", ""]
