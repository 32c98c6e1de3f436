"""The trunk in the cache: exported once, opened without torch, mended when damaged."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from graft.errors import GraftError, UsageError
from graft.features.trunk import Trunk, open_trunk, tuned_trunk
from graft.models.build import build
from graft.models.catalog import create
from graft.models.network import StageFeatures, cut
from graft.models.network import trunk as lower
from graft.models.weights import Source, find_source
from graft.runtime.export import pixels_first
from graft.runtime.onnx import OnnxRunner


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A tiny network of timm with random weights, from a file."""
    file = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), file)
    return find_source("timm:test_resnet", file)


@pytest.fixture(scope="module")
def cache(small: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trunks")
    open_trunk(small, folder)
    return folder


def test_what_the_trunk_of_lite0_is(session_cache: Path) -> None:
    source = find_source("efficientnet-lite0")
    trunk = open_trunk(source, session_cache)
    assert (trunk.width, trunk.size, trunk.head) == (1280, 224, "classifier.fc")
    assert (trunk.builder, trunk.architecture) == ("graft", "efficientnet-lite0")
    assert trunk.stages == ("stem", *(f"blocks.{i}" for i in range(7)), "conv_head")
    assert trunk.widths == (32, 16, 24, 40, 80, 112, 192, 320, 1280, 1280)  # table 1 of the paper, width 1.0; the head
    assert OnnxRunner(trunk.graph)(np.zeros((3, 224, 224, 3), np.uint8)).shape == (3, 3376)
    assert set(load_file(trunk.weights)) == set(create("efficientnet-lite0").state_dict())
    assert not list((session_cache / "trunks").glob("*.tmp"))


def test_opening_it_again_imports_no_torch_and_exports_nothing(session_cache: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from graft.models.catalog import create
from graft.models.weights import find_source
from graft.features.trunk import open_trunk, runner
source = find_source("efficientnet-lite0")
trunk = open_trunk(source, Path({str(session_cache)!r}), progress=lambda *_: print("exported"))
runner(trunk, source, "cpu")
print(sorted({{"torch", "timm", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_same_source_gives_the_same_trunk_and_other_weights_another(small: Source, cache: Path) -> None:
    assert open_trunk(small, cache) == open_trunk(small, cache)
    trunk = open_trunk(small, cache)
    assert (trunk.head, trunk.network) == ("fc", "timm:test_resnet")
    assert trunk.folder.name == trunk.key


def test_a_tuned_network_is_a_trunk_as_any_other(small: Source, cache: Path, tmp_path: Path) -> None:
    before, built = open_trunk(small, cache), build(small)
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.mul_(1.01)
    trunk = tuned_trunk(built, before, tmp_path / "tuned")
    assert trunk.key != before.key
    assert (trunk.outputs, trunk.widths, trunk.head) == (before.outputs, before.widths, before.head)
    pixels = np.random.default_rng(0).integers(0, 256, (2, trunk.size, trunk.size, 3), dtype=np.uint8)
    given = OnnxRunner(trunk.graph)(pixels)
    with torch.inference_mode():
        expected = pixels_first(StageFeatures(built.network.eval()), trunk.mean, trunk.std)(
            torch.from_numpy(pixels)
        ).numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(given - OnnxRunner(before.graph)(pixels)).max() > 1e-2
    changed = load_file(trunk.weights)
    assert not any(np.array_equal(changed[name], tensor) for name, tensor in load_file(before.weights).items()
                   if tensor.ndim == 4)  # fmt: skip
    (tmp_path / "file").write_text("")
    with pytest.raises(GraftError, match="cannot be written"):
        tuned_trunk(built, before, tmp_path / "file" / "tuned")


def damage(trunk: Trunk, how: str) -> None:
    record = trunk.folder / "trunk.json"
    if how == "graph":
        trunk.graph.write_bytes(trunk.graph.read_bytes()[:-1] + b"\0")
    elif how == "weights gone":
        trunk.weights.unlink()
    elif how == "record of no mean":
        fields = json.loads(record.read_text())
        del fields["mean"]
        record.write_text(json.dumps(fields))


@pytest.mark.parametrize("how", ["graph", "weights gone", "record of no mean"])
def test_a_damaged_entry_is_made_anew(small: Source, cache: Path, how: str) -> None:
    trunk = open_trunk(small, cache)
    pixels = np.random.default_rng(0).integers(0, 256, (1, trunk.size, trunk.size, 3), dtype=np.uint8)
    expected, digest = OnnxRunner(trunk.graph)(pixels), hashlib.sha256(trunk.weights.read_bytes()).hexdigest()
    damage(trunk, how)
    said: list[int] = []
    assert open_trunk(small, cache, progress=lambda _what, done, _total: said.append(done)) == trunk
    assert said == [0, 1]
    np.testing.assert_array_equal(OnnxRunner(trunk.graph)(pixels), expected)
    assert hashlib.sha256(trunk.weights.read_bytes()).hexdigest() == digest


def test_the_ladder_is_the_average_of_what_each_cut_gives_and_then_the_features(small: Source, cache: Path) -> None:
    trunk = open_trunk(small, cache)
    network = build(small).network
    pixels = np.random.default_rng(0).integers(0, 256, (3, trunk.size, trunk.size, 3), dtype=np.uint8)
    mean, std = torch.tensor(trunk.mean), torch.tensor(trunk.std)
    x = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
    expected = {}
    with torch.inference_mode():
        for stage, above in zip(trunk.stages, (*trunk.stages[1:], "classifier"), strict=True):
            expected[stage] = cut(network, above)[0](x).double().numpy().mean(axis=(2, 3))
        expected["features"] = lower(network)(x).numpy()
    row = OnnxRunner(trunk.graph)(pixels)
    assert row.shape == (3, trunk.row_width)
    for output in trunk.outputs:
        np.testing.assert_allclose(row[:, trunk.columns(output)], expected[output], rtol=1e-3, atol=1e-4)


def test_outputs_stand_side_by_side_and_unknown_ones_are_one_line(small: Source, cache: Path) -> None:
    trunk = open_trunk(small, cache)
    assert trunk.outputs == (*trunk.stages, "features")
    edges = [trunk.columns(output) for output in trunk.outputs]
    assert [edge.start for edge in edges] == [0, *(edge.stop for edge in edges[:-1])]
    assert edges[-1] == slice(trunk.row_width - trunk.width, trunk.row_width)
    with pytest.raises(UsageError, match=r"no stage 'layer5' in timm:test_resnet, which has .*did you mean 'layer\d'"):
        trunk.columns("layer5")


def test_no_average_over_a_picture_is_left_for_onnx_runtime_to_turn_maps_for(session_cache: Path) -> None:
    graph = onnx.load(open_trunk(find_source("efficientnet-lite0"), session_cache).graph).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("GlobalAveragePool") == 9  # the last stage's serves the features too
    assert "ReduceMean" not in kinds
    assert any("features" in node.output for node in graph.node)
    assert [output.name for output in graph.output] == ["ladder"]


def _open(source: Source, folder: Path) -> None:
    open_trunk(source, folder)


def test_two_processes_may_export_at_once(small: Source, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_open, args=(small, tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert [path.name for path in (tmp_path / "trunks").iterdir()] == [open_trunk(small, tmp_path).key]


def test_a_cache_that_cannot_be_written_is_one_line(small: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(GraftError, match=r"the cache cannot be written: .*; free some space or give") as caught:
        open_trunk(small, tmp_path / "cache")
    assert "\n" not in str(caught.value)
