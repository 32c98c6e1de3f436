"""The model folder: what is saved comes back, and whatever was altered is refused before it is used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_tensors

from graft.classifier.artefact import GRAPH, WEIGHTS, Classifier, Golden, count_look, load, save, seal
from graft.classifier.manifest import MANIFEST, SCHEMA, Calibration, HeadRecord, Manifest
from graft.classifier.rebuild import rebuild
from graft.classifier.record import DataRecord, PartCounts, PhaseRecord, RunRecord
from graft.data.preprocess import Preprocess
from graft.errors import BadModel
from graft.runtime.graph import with_head
from graft.runtime.onnx import OnnxRunner

TENSORS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.array([0.5, -1], np.float32),
    "steps": np.array(7, np.int64),
}  # fmt: skip
TOP = ("features",)  # what a head stands on
PREPROCESS = Preprocess(4, "pad", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)


COUNTS = PartCounts(train=1, val=0, test=1)
DATA = DataRecord(
    source="photos", pictures=4, computed=4, set_aside=0, near_duplicate_groups=0,
    counts={"cat": COUNTS, "dög": COUNTS}, notes=(), findings=(),
)  # fmt: skip
RECORD = RunRecord(made="2026-12-01T00:00:00+00:00", machine="x86_64", device="cpu", versions={"graft": "0.1.0"})


def tiny_graph() -> onnx.ModelProto:
    """pixels (N, 4, 4, 3) → their mean colour (N, 3) → two probabilities."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["x", "axes"], ["features"], keepdims=0),
            helper.make_node("Gemm", ["features", "w", "b"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 4, 4, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(TENSORS["weight"] / 255, "w"),
            numpy_helper.from_array(TENSORS["bias"], "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def manifest(files: dict[str, str], **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "schema": SCHEMA, "graft": "0.1.0", "network": "tiny", "builder": "timm", "architecture": "tiny",
        "head": HeadRecord(layer="fc"), "classes": ("cat", "dög"), "preprocess": PREPROCESS,
        "calibration": Calibration(method="none"), "strategy": "probe", "seed": 0, "data": DATA, "test": None,
        "looks": 1, "seconds": {}, "record": RECORD, "files": files,
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


def write(folder: Path, *, tensors: dict[str, Any] | None = None, graph: bytes | None = None, **changes: Any) -> Path:
    folder.mkdir()
    golden = [Golden(PIXELS, np.array([0.25, 0.75], np.float32))]
    graph = tiny_graph().SerializeToString() if graph is None else graph
    files = save(
        folder, tensors=TENSORS if tensors is None else tensors, graph=graph, golden=golden,
        others={"report.html": b"<p>hello"},
    )  # fmt: skip
    seal(folder, manifest(files, **changes))
    return folder


def replace(folder: Path, name: str, data: bytes) -> None:
    """Alter a file as one would who also mends its hash in the manifest."""
    (folder / name).write_bytes(data)
    edit(folder, lambda fields: fields["files"].__setitem__(name, hashlib.sha256(data).hexdigest()))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads((folder / MANIFEST).read_bytes())
    change(fields)
    (folder / MANIFEST).write_text(json.dumps(fields))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(BadModel, match=match) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


def test_what_was_saved_comes_back(folder: Path) -> None:
    found = load(folder)
    assert found.classes == ("cat", "dög")
    assert found.preprocess == PREPROCESS
    assert found.graph == (folder / GRAPH).read_bytes()
    tensors = found.tensors()
    assert set(tensors) == set(TENSORS)
    assert all(tensors[name].tobytes() == TENSORS[name].tobytes() for name in TENSORS)
    assert all(tensors[name].shape == TENSORS[name].shape for name in TENSORS)
    (golden,) = found.golden()
    assert np.array_equal(golden.pixels, PIXELS)
    assert golden.probabilities.tolist() == [0.25, 0.75]
    mean = PIXELS.astype(np.float64).mean(axis=(0, 1)) / 255
    logits = TENSORS["weight"] @ mean + TENSORS["bias"]
    np.testing.assert_allclose(
        OnnxRunner(found.graph)(PIXELS[None])[0], np.exp(logits) / np.exp(logits).sum(), rtol=1e-5
    )
    assert set(found.manifest.files) == {
        WEIGHTS, GRAPH, "golden/0.png", "golden/expected.json", "report.html"
    }  # fmt: skip


def test_a_look_at_the_test_split_is_counted_and_breaks_nothing(folder: Path) -> None:
    found = load(folder)
    assert [count_look(found) for _ in range(3)] == [2, 3, 4]
    assert load(folder).manifest.looks == 4
    assert load(folder).manifest.model_copy(update={"looks": 1}) == found.manifest
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, "golden/0.png", "golden/expected.json", "report.html"])
def test_one_flipped_bit_in_any_file_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    refused(folder, r"has changed since it was written \(its SHA-256 differs\)")


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, "golden/0.png", "report.html"])
def test_a_file_that_is_missing_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, "cannot be read")


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, "golden/expected.json"])
def test_a_manifest_that_lists_too_little_is_refused(folder: Path, name: str) -> None:
    edit(folder, lambda fields: fields["files"].pop(name))
    refused(folder, "it was not written whole")


def test_a_folder_without_its_seal_is_no_model(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).unlink()
    refused(folder, "holds no model.json")
    refused(tmp_path / "absent", "is not a folder")
    refused(folder / GRAPH, "is not a folder")


def safetensors_file(header: str | bytes, body: bytes = b"") -> bytes:
    header = header.encode() if isinstance(header, str) else header
    return len(header).to_bytes(8, "little") + header + body


ENTRY = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
OVERLAP = '"b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}'
UNSOUND = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "truncated": save_tensors(TENSORS)[:-3],
    "header cut": save_tensors(TENSORS)[:30],
    "header longer than the file": (2**40).to_bytes(8, "little") + b"{}",
    "a name twice": safetensors_file(f"{{{ENTRY}, {ENTRY}}}", bytes(4)),
    "overlap": safetensors_file(f"{{{ENTRY}, {OVERLAP}}}", bytes(6)),
    "no JSON": safetensors_file("not json"),
    "a list": safetensors_file("[]"),
    "deep": safetensors_file("[" * 100_000),
    "not UTF-8": safetensors_file(b'{"\xff": 1}'),
    "pickle": b"\x80\x04\x95" + bytes(60),
    "HTML": b"<!DOCTYPE html><title>404</title>" * 3,
    "100,000 tensors": safetensors_file(
        json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)})
    ),
}


@pytest.mark.parametrize("data", UNSOUND.values(), ids=UNSOUND.keys())
def test_unsound_safetensors_are_refused_even_with_the_right_hash(folder: Path, data: bytes) -> None:
    replace(folder, WEIGHTS, data)
    refused(folder, r"model\.safetensors is not a (whole|sound) safetensors file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float, kind: type) -> None:
    replace(folder, WEIGHTS, save_tensors({**TENSORS, "bad": np.array([1, value], kind)}))
    refused(folder, r"holds values that are not finite, in bad;")


def test_a_graph_whose_weights_are_not_finite_is_refused(folder: Path) -> None:
    model = tiny_graph()
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([np.nan, 0], np.float32), "b"))
    replace(folder, GRAPH, model.SerializeToString())
    refused(folder, r"model\.onnx holds values that are not finite, in b;")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "weights.bin", "link.bin"])
def test_a_graph_that_reads_another_file_is_refused(folder: Path, location: str) -> None:
    (folder / "weights.bin").write_bytes(bytes(24))
    os.link(folder / "weights.bin", folder / "hard.bin")
    (folder / "link.bin").symlink_to("/etc/passwd")
    model = tiny_graph()
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    replace(folder, GRAPH, model.SerializeToString())
    refused(folder, r"model\.onnx keeps weights in another file, which is refused")


def test_external_data_in_a_subgraph_is_found(folder: Path) -> None:
    outside = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../secret.bin")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=outside)], "branch", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    model = tiny_graph()
    model.graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch))
    replace(folder, GRAPH, model.SerializeToString())
    refused(folder, "keeps weights in another file")


@pytest.mark.parametrize("data", [b"<html>", b"\xff" * 50, b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_graph_is_refused(folder: Path, data: bytes) -> None:
    replace(folder, GRAPH, data)
    refused(folder, r"model\.onnx is not an ONNX file")


def test_a_newer_schema_asks_for_an_upgrade(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(schema=SCHEMA + 1, something_new=3))
    refused(folder, rf"has schema {SCHEMA + 1}, this graft reads up to {SCHEMA}; upgrade graft")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "golden/../../outside", "a\\..\\outside", ".."])
def test_a_file_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside").write_bytes(b"secret")
    edit(folder, lambda fields: fields["files"].__setitem__(name, hashlib.sha256(b"secret").hexdigest()))
    refused(folder, "which leaves the folder; do not use this model")


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, "report.html"])
def test_a_link_in_a_file_s_place_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, "must be a plain file, it is a link or something else")


def test_a_link_in_a_folder_s_place_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "golden").rename(tmp_path / "elsewhere")
    (folder / "golden").symlink_to(tmp_path / "elsewhere")
    refused(folder, "must be a plain file")


def test_a_pipe_in_a_file_s_place_is_never_opened(folder: Path) -> None:
    (folder / "report.html").unlink()
    os.mkfifo(folder / "report.html")
    refused(folder, "must be a plain file")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"schema": "1"}', b"[" * 100_000, b"<html>"],
    ids=["empty", "cut", "list", "null", "no fields", "not UTF-8", "schema of text", "deep", "HTML"],
)
def test_what_is_no_manifest_is_refused(folder: Path, data: bytes) -> None:
    (folder / MANIFEST).write_bytes(data)
    refused(folder, "is not a manifest of graft")


def test_a_field_that_this_version_does_not_know_is_refused(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(extra=1))
    refused(folder, "is not a manifest of graft")


@pytest.mark.parametrize(
    "change",
    [{"size": 0}, {"size": "4"}, {"fit": "stretch"}, {"std": [0, 1, 1]}, {"mean": [1]}, {"mean": 3}, {"more": 1},
     {"mean": ["a", "b", "c"]}, {"std": [float("nan"), 1, 1]}, {"size": 4.5}],
    ids=str,
)  # fmt: skip
def test_unusable_preprocessing_is_refused(folder: Path, change: dict[str, Any]) -> None:
    edit(folder, lambda fields: fields["preprocess"].update(change))
    refused(folder, "(has no usable preprocessing|is not a manifest of graft)")


def test_preprocessing_that_leaves_a_field_out_takes_no_default_for_it(folder: Path) -> None:
    edit(folder, lambda fields: fields["preprocess"].pop("mean"))
    refused(folder, "has no usable preprocessing .mean is missing")


def test_weights_that_change_after_loading_are_refused(folder: Path) -> None:
    found = load(folder)
    replace(folder, WEIGHTS, save_tensors({"weight": np.zeros(1, np.float32)}))
    with pytest.raises(BadModel, match="has changed since it was written"):
        found.tensors()


def grown_on_the_real_trunk(folder: Path, cache: Path, head_kind: str, reads: tuple[str, ...]) -> Classifier:
    """A whole model of two classes, its head drawn. reads: what it reads."""
    from safetensors.numpy import load_file

    from graft.features.trunk import open_trunk
    from graft.heads.head import Head
    from graft.heads.kernel import Kernel, unit
    from graft.models.weights import find_source

    trunk = open_trunk(find_source("efficientnet-lite0"), cache)
    draw = np.random.default_rng(0)
    width = sum(trunk.widths[trunk.outputs.index(name)] for name in reads)
    kernel = Kernel(unit(np.abs(draw.normal(size=(9, width))).astype(np.float32)), 2.5)
    weight = draw.normal(0, 0.05, (2, width)) if head_kind == "logistic" else draw.normal(0, 3, (2, 9))
    bias = np.array([0.3, -0.3], np.float32)
    head = Head("rbf", weight.astype(np.float32), bias, None if head_kind == "logistic" else kernel)
    numbers = None if reads == TOP else [trunk.outputs.index(name) for name in reads]
    graph = with_head(trunk.graph, head, ("cat", "dog"), reads=numbers)
    tensors = {**load_file(trunk.weights), **head.tensors(trunk.head)}
    pictures = draw.integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    golden = [Golden(p, r) for p, r in zip(pictures, OnnxRunner(graph)(pictures), strict=True)]
    files = save(folder, tensors=tensors, graph=graph, golden=golden, others={})
    seal(
        folder,
        manifest(
            files, builder=trunk.builder, architecture=trunk.architecture,
            head=HeadRecord(layer=trunk.head, kind=head_kind, reads=reads), classes=("cat", "dog"),
            preprocess=trunk.preprocess("squash"),
        ),
    )  # fmt: skip
    return load(folder)


@pytest.fixture(
    scope="module",
    params=[("logistic", TOP), ("rbf", TOP), ("logistic", ("blocks.2",)), ("rbf", ("blocks.1", "features"))],
    ids=lambda param: f"{param[0]} on {' and '.join(param[1])}",
)
def grown(request: pytest.FixtureRequest, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return grown_on_the_real_trunk(tmp_path_factory.mktemp("grown"), session_cache, *request.param)


def test_the_rebuilt_network_gives_the_golden_probabilities(grown: Classifier) -> None:
    network = rebuild(grown)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (grown.preprocess.mean, grown.preprocess.std))
    for golden in grown.golden():
        x = (torch.from_numpy(golden.pixels.copy()).permute(2, 0, 1)[None] / 255 - mean) / std
        with torch.inference_mode():
            given = torch.softmax(network(x), dim=1)[0].numpy()
        np.testing.assert_allclose(given, golden.probabilities, atol=1e-4)
        assert OnnxRunner(grown.graph)(golden.pixels[None])[0].tolist() == golden.probabilities.tolist()


def test_weights_of_another_network_are_listed_when_it_is_rebuilt(grown: Classifier) -> None:
    other = Classifier(
        grown.folder,
        grown.manifest.model_copy(update={"classes": ("cat", "dog", "cow")}),
        grown.graph,
    )
    head = grown.manifest.head
    width = 9 if head.kind == "rbf" else 40 if head.reads != TOP else 1280  # 40 in blocks.2
    with pytest.raises(BadModel, match=rf"classifier\.fc\.weight is \(2, {width}\) and should be \(3, {width}\)"):
        rebuild(other)


def as_schema_1(fields: dict[str, Any], *, head_kind: str | None, rungs: str | None) -> None:
    """The fields as they were written before heads named what they read."""
    fields.update({"schema": 1, "head": fields["head"]["layer"]})
    if head_kind:
        fields["head_kind"] = head_kind
    if rungs:
        fields["arguments"] = {**fields["arguments"], "rungs": rungs}


@pytest.mark.parametrize(
    ("head_kind", "rungs", "expected"),
    [
        (None, None, HeadRecord(layer="fc")),
        ("lda", "layer1,features", HeadRecord(layer="fc", kind="lda", reads=("layer1", "features"))),
    ],
)
def test_models_of_the_first_schema_are_read(
    folder: Path, head_kind: str | None, rungs: str | None, expected: HeadRecord
) -> None:
    """The first of them said nothing of the kind of a head, which was a logistic regression then."""
    edit(folder, lambda fields: as_schema_1(fields, head_kind=head_kind, rungs=rungs))
    manifest = load(folder).manifest
    assert (manifest.head, manifest.arguments, manifest.schema_version) == (expected, {}, SCHEMA)


def test_the_record_of_the_first_schema_is_read_in_the_terms_of_today(folder: Path) -> None:
    phase = {"epochs": 3, "best_epoch": 2, "ended": "epochs", "precision": "float32", "batch": 16}

    def changed(fields: dict[str, Any]) -> None:
        as_schema_1(fields, head_kind=None, rungs=None)
        fields["record"].update({**phase, "pictures_per_second": 9.5, "settings": {"seed": 1}, "maps": {}})
        fields["record"]["training"] = {"rate": 0.1, "seed": 1}

    edit(folder, changed)
    record = load(folder).manifest.record
    assert record.settings == {"seed": 1, "rate": 0.1}
    assert record.phases == (PhaseRecord(**phase, pictures_per_second=9.5),)
    assert record.maps is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("test",), {"n": 3}), (("record",), {}), (("record", "phases"), [{"epochs": "many"}]), (("data", "counts"), 3),
        (("data", "more"), 1), (("record", "more"), 1), (("head",), {"layer": "fc", "more": "x"}), (("head",), None),
    ],
    ids=str,
)  # fmt: skip
def test_a_part_that_is_not_what_graft_writes_is_refused(folder: Path, path: tuple[str, ...], value: Any) -> None:
    def changed(fields: dict[str, Any]) -> None:
        *inner, last = path
        for name in inner:
            fields = fields[name]
        fields[last] = value

    edit(folder, changed)
    refused(folder, "is not a manifest of graft")


def test_a_kernel_machine_without_its_landmarks_is_refused_when_it_is_rebuilt(tmp_path: Path) -> None:
    whole = write(tmp_path / "model", architecture="test_resnet", head=HeadRecord(layer="fc", kind="rbf"))
    with pytest.raises(BadModel, match=r"needs a matrix head\.landmarks"):
        rebuild(load(whole))


def test_a_head_on_earlier_stages_without_its_weights_is_refused_when_it_is_rebuilt(tmp_path: Path) -> None:
    whole = write(tmp_path / "model", architecture="test_resnet", head=HeadRecord(layer="fc", reads=("layer1",)))
    with pytest.raises(BadModel, match=r"needs a matrix fc\.weight, its last layer, and holds none"):
        rebuild(load(whole))
