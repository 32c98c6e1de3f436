"""`graft analyze` and `graft compare` as functions: every source by its name, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from analysis.lecture_networks import alexnet_prototxt
from graft.classifier.artefact import load
from graft.cli.texts.analyze import Form, analysis_text, comparison_text
from graft.errors import UsageError
from graft.jobs.analyze import find_subject, parse_shape, picture_sizes, run_analyze, run_compare
from graft.models.catalog import CARDS, find


def said(what: str, form: Form = "text", *, batch: int = 1, **options: Any) -> str:
    """What the command prints of it."""
    return analysis_text(run_analyze(what, batch=batch, **options), form, batch=batch)


def test_json_of_a_network_of_ours() -> None:
    document = json.loads(said("vgg16", "json"))
    assert (document["network"], document["input"]) == ("vgg16", [3, 224, 224])
    assert document["totals"]["parameters"] == 138_357_544
    assert document["totals"]["macs"] == 15_470_264_320


def test_files_are_written(tmp_path: Path) -> None:
    path, svg, html = tmp_path / "a.prototxt", tmp_path / "a.svg", tmp_path / "a.html"
    path.write_text(alexnet_prototxt())
    run_analyze(str(path), svg=svg, html=html)
    ET.parse(svg)
    assert html.read_text().count("<svg") == 2
    assert said(str(path), "csv").splitlines()[1].startswith("conv1,conv,3×227×227,64×56×56,11×11,4×4")


def test_a_trained_model_folder_is_the_graph_that_is_shipped(model: Path) -> None:
    """EfficientNet-Lite0 with 4 classes for 1,000: 1,280 multiply-adds and weights fewer for each, and 1 bias."""
    subject = find_subject(str(model))
    assert subject.analysis.network == "model"
    assert subject.analysis.macs == find("efficientnet-lite0").macs - 996 * 1280
    convolutions = sum(layer.macs for layer in subject.analysis.layers if layer.kind.endswith("conv"))
    assert convolutions == find("efficientnet-lite0").macs - 1000 * 1280
    test = load(model).manifest.test
    assert test is not None
    assert subject.accuracy == pytest.approx(100 * test.top1.value)
    assert subject.analysis.input_shape == (3, 224, 224)  # though the graph takes its channels last
    row = comparison_text(run_compare([str(model), "efficientnet-lite0"]), "text").splitlines()[2]
    assert row.split()[:2] == ["model", "3×224×224"]
    with pytest.raises(UsageError, match="leave --input out"):
        find_subject(str(model), (3, 160, 160))


def test_a_trained_model_folder_against_its_pictures(model: Path, digits: Path) -> None:
    """MNIST's 28 pixels become 224, and the last maps see all of them."""
    text = said(str(model), against=digits)
    assert text.startswith("median picture 28×28 pixels, scaled by 8.00")
    assert "is enlarged 8.0 times to 224" in text


def test_packaged_networks_by_name() -> None:
    found = {}
    for card in (card for card in CARDS if card.packaged):
        analysis = find_subject(card.short).analysis
        found[analysis.network] = analysis.input_shape
        assert (analysis.parameters, analysis.macs) == (card.parameters, card.macs)
    assert found == {f"efficientnet-lite{number}": (3, side, side) for number, side in enumerate((224, 240, 260))}
    assert find_subject("efficientnet-lite0").accuracy == 75.1


def test_libraries_by_name() -> None:
    assert find_subject("torchvision:resnet18").analysis.parameters == 11_689_512
    assert find_subject("torchvision:resnet18").accuracy == 69.758
    assert find_subject("timm:resnet18", (3, 64, 64)).analysis.layers[0].output_shape == (64, 32, 32)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("resnet51", "no network of ours.*did you mean 'resnet"),
        ("timm:resnet19", "timm has no network 'resnet19'; did you mean"),
        ("torchvision:resnet19", "torchvision has no network 'resnet19'; did you mean"),
        ("none.onnx", "cannot read none.onnx"),
        ("none.prototxt", "cannot read none.prototxt"),
    ],
)
def test_unknown_networks(what: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        run_analyze(what)
    assert "\n" not in str(error.value)


def test_shapes() -> None:
    assert parse_shape("3,227,227") == parse_shape("3x227x227") == (3, 227, 227)
    for wrong in ("", "3,0,5", "a", "1,2,3,4,5", "-3,4,4"):
        with pytest.raises(UsageError, match="--input must be sides"):
            parse_shape(wrong)


def test_comparison(tmp_path: Path) -> None:
    rows = run_compare(["alexnet", "vgg16"], accuracies=["vgg16=71.5"], svg=tmp_path / "c.svg")
    assert comparison_text(rows, "text").splitlines()[3].split()[-2:] == ["71.5", "%"]
    for wrong in ("vgg16", "vgg61=3", "vgg16=many", "vgg16=101"):
        with pytest.raises(UsageError, match="--accuracy"):
            run_compare(["vgg16"], accuracies=[wrong])


def test_against_a_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (48, 32)).save(tmp_path / name / "a.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert picture_sizes(tmp_path) == ([(32, 48), (32, 48)], 1)
    text = said("resnet18", against=tmp_path)
    assert text.startswith("median picture 32×48 pixels, scaled by 7.00")
    assert "1 pictures could not be read" in text
    stages = [line.split()[0] for line in text.splitlines()[4:10]]
    assert stages == ["conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "classifier"]


def test_against_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (48, 32)).save(tmp_path / "photos" / name / "a.png")
    zipped = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "photos"))
    assert picture_sizes(zipped) == ([(32, 48), (32, 48)], 0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_layers_are_named_by_the_paper_s_stages() -> None:
    layers = find_subject("resnet18").analysis.layers
    assert [layer.name for layer in layers][:3] == ["conv1.conv", "conv1.bn", "conv1.relu"]
    assert {layer.name.split(".")[0] for layer in layers} == {*find_subject("resnet18").stages}


def test_measuring_by_stage() -> None:
    text = said("resnet20_cifar", measured=True, batch=2)
    table = [line.split() for line in text.splitlines()[2:-2]]
    assert [row[0] for row in table] == [*find_subject("resnet20_cifar").stages]
    assert "a batch of 2 takes" in text
    children = [
        line.split()[0] for line in said("timm:resnet18", input_shape=(3, 64, 64), measured=True).splitlines()[2:-2]
    ]
    assert children == ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "global_pool", "fc"]


def test_what_pytorch_does_not_run_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.prototxt"
    path.write_text(alexnet_prototxt())
    with pytest.raises(UsageError, match="--measure times PyTorch networks, and AlexNet is none; name a network of"):
        run_analyze(str(path), measured=True)
