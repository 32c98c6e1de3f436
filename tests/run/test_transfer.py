"""Probes on earlier stages, and which strategy wins: on drawn textures and a small network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graft
from graft.classifier.artefact import load
from graft.classifier.rebuild import rebuild
from graft.cli.texts.train import summary
from graft.errors import UsageError
from graft.evaluate.calibration import softmax
from graft.features.rows import Rows
from graft.features.trunk import open_trunk
from graft.heads.choose import Choice, choose_head
from graft.heads.head import Head
from graft.heads.rbf import fit_rbf
from graft.jobs import train
from graft.models.weights import find_source
from graft.run import probe as probe_of_run
from graft.runtime.export import pixels_first
from graft.runtime.onnx import OnnxRunner
from graft.training.recipe.settings import Recipe
from run.textures import NETWORK, blind_to_direction, drawn_weights, textures

QUICK: dict[str, Any] = {
    "epochs": 1, "batch": 32, "rate": 1e-4, "augment": "none", "precision": "float32", "ema": None
}  # fmt: skip
LEARNING: dict[str, Any] = {
    "epochs": 4, "batch": 8, "rate": 3e-3, "augment": "none", "precision": "float32", "ema": None, "mixup": 0.0,
    "layer_decay": 1.0, "frozen_statistics": False,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, 90 textures of three classes, two files of weights, and a cache."""
    folder = tmp_path_factory.mktemp("transfer")
    textures(folder / "photos", 30)
    drawn_weights(folder / "drawn.safetensors")
    blind_to_direction(folder / "blind.safetensors")
    return folder


def settings(home: Path, weights: str = "drawn", **others: Any) -> Recipe:
    return Recipe(network=NETWORK, weights=home / f"{weights}.safetensors", cache=home / "cache", **others)


def fields(model: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((model / "model.json").read_text())
    return loaded


def rbf(rows: Rows, labels: Any, fold: Any, **given: Any) -> Choice:
    """The RBF machine, whether or not it beats the others."""
    choice = choose_head(rows, labels, fold, **given)
    fitted = fit_rbf(rows, labels, fold, num_classes=given["num_classes"])
    return replace(choice, head=fitted.head, held_out=softmax(fitted.held_out))


@pytest.mark.parametrize("kind", ["logistic", "rbf"])
@pytest.mark.parametrize("stages", ["layer2", "stem,layer2", "layer1,features"])
def test_a_probe_on_earlier_stages_is_one_network_in_graph_and_pytorch(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stages: str
) -> None:
    heads: list[Head] = []

    def noted(rows: Rows, labels: Any, fold: Any, **given: Any) -> Choice:
        choice = (rbf if kind == "rbf" else choose_head)(rows, labels, fold, **given)
        heads.append(choice.head)
        return choice

    monkeypatch.setattr(probe_of_run, "choose_head", noted)
    train.run(home / "photos", tmp_path / "model", settings(home, strategy="probe", probe_on=stages))
    model = load(tmp_path / "model")
    assert model.manifest.head.reads == tuple(stages.split(","))
    assert model.manifest.head.kind == kind
    pixels = np.stack([golden.pixels for golden in model.golden()])  # (3, 160, 160, 3)

    trunk = open_trunk(find_source(NETWORK, home / "drawn.safetensors"), home / "cache")
    ladder = OnnxRunner(trunk.graph)(pixels)
    rows = np.concatenate([ladder[:, trunk.columns(output)] for output in stages.split(",")], axis=1)
    expected = softmax(heads[0].logits(rows))
    assert expected.max(axis=0).min() > 0.5  # each class is said of some picture
    close = 1e-4 if kind == "logistic" else 5e-4  # a kernel machine's weights are large, and cancel
    np.testing.assert_allclose(OnnxRunner(model.graph)(pixels), expected, atol=close)
    network = pixels_first(rebuild(model), model.preprocess.mean, model.preprocess.std)
    with torch.inference_mode():
        given = torch.softmax(network(torch.from_numpy(pixels)), dim=1).numpy()
    np.testing.assert_allclose(given, expected, atol=close)


def test_a_model_on_earlier_stages_predicts_evaluates_and_searches(home: Path, tmp_path: Path) -> None:
    chosen = settings(home, strategy="probe", probe_on="stem,layer2")
    train.run(home / "photos", tmp_path / "model", chosen)
    model = graft.load(tmp_path / "model")
    assert model.verify() < 1e-3
    picture = home / "photos" / "down" / "003.png"
    assert model.predict([picture])[0].label == "down"
    assert fields(tmp_path / "model")["test"]["top1"]["value"] > 0.8
    found = graft.search(tmp_path / "model", picture, home / "photos", k=5, cache=home / "cache")
    (features, _) = found.rankings
    tensors = load(tmp_path / "model").tensors()
    stood_on = tensors["head.landmarks"] if "head.landmarks" in tensors else tensors["fc.weight"]
    assert features.space.columns == slice(0, stood_on.shape[1])
    assert "advice" not in fields(tmp_path / "model")["record"]  # there was nothing to advise
    assert [match.label for match in features.matches].count("down") >= 3


@pytest.mark.parametrize(
    ("probe_on", "message"),
    [
        ("layer9", "--probe-on must be auto, top or stages, stem, .*, got 'layer9'"),
        ("", "--probe-on must be auto, top or stages"),
    ],
)
def test_a_stage_that_is_not_there_is_one_line(home: Path, tmp_path: Path, probe_on: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train.run(home / "photos", tmp_path / "model", settings(home, strategy="probe", probe_on=probe_on))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_was_asked_for_says_that_nothing_else_was_tried(home: Path, tmp_path: Path) -> None:
    train.run(home / "photos", tmp_path / "model", settings(home, strategy="probe"))
    advice = fields(tmp_path / "model")["record"]["advice"]
    assert advice["decision"] == advice["probe"]
    assert advice["reason"][-1] == "Fine-tuning was not tried: the strategy asked for is a new head alone."
    assert advice["lines"][-1] == advice["reason"][-1]


def test_with_few_pictures_fine_tuning_is_not_tried_and_the_model_says_so(home: Path, tmp_path: Path) -> None:
    train.run(home / "photos", tmp_path / "model", settings(home, **QUICK))
    said = fields(tmp_path / "model")
    assert said["strategy"] == said["record"]["advice"]["decision"]["kind"] == "probe"
    last = said["record"]["advice"]["reason"][-1]
    assert last.startswith("Fine-tuning was not tried: with 1")
    assert last.endswith("held-out pictures no gain could be told from noise.")
    assert "fine-tuning" not in said["seconds"]
    report = (tmp_path / "model" / "report.html").read_text()
    assert "<h2>Why this strategy</h2>" in report
    assert last in report
    assert report.count('class="strip-cell"') == len(said["record"]["advice"]["stages"])
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_fine_tuning_that_wins_beyond_noise_is_chosen(home: Path, tmp_path: Path) -> None:
    """The network's features are the same for stripes across and down; training its upper stages tells them apart."""
    photos = textures(tmp_path / "photos", 130, kinds=("across", "down"))
    train.run(photos, tmp_path / "model", settings(home, "blind", **LEARNING, freeze="layer1"))
    said = fields(tmp_path / "model")
    assert said["strategy"] == "finetune"
    assert said["test"]["top1"]["value"] > 0.8
    advice = said["record"]["advice"]
    assert advice["decision"]["kind"] == advice["by_evidence"]["kind"] == "finetune"
    assert advice["decision"]["cut"] == said["record"]["cut"] == "layer2"
    assert all(score["accuracy"] < 0.7 for score in advice["stages"])
    at = next(i for i, sentence in enumerate(advice["reason"]) if sentence.startswith("Tried on"))
    tried, beats = advice["reason"][at : at + 2]
    assert tried.startswith("Tried on 42 held-out pictures: probe: ")
    assert beats.startswith("Fine-tune from layer2 up beats probe: ")
    assert graft.load(tmp_path / "model").verify() < 1e-3


def test_where_the_gain_is_within_noise_the_probe_stays_and_a_given_validation_split_judges(
    home: Path, tmp_path: Path
) -> None:
    for part, count, first in (("train", 20, 0), ("val", 21, 100), ("test", 6, 200)):
        textures(tmp_path / "photos" / part, count, kinds=("across", "down"), first=first)
    train.run(tmp_path / "photos", tmp_path / "model", settings(home, **QUICK, freeze="layer3"))
    said = fields(tmp_path / "model")
    assert said["data"]["counts"]["down"] == {"train": 20, "val": 21, "test": 6}
    assert said["strategy"] == "probe"
    reason = " ".join(said["record"]["advice"]["reason"])
    assert "Tried on 42 held-out pictures" in reason
    assert "within noise, and is the cheaper." in reason
    assert said["record"]["advice"]["decision"] == said["record"]["advice"]["probe"]


def test_a_budget_that_is_spent_leaves_the_probe_and_a_sentence(home: Path, tmp_path: Path) -> None:
    photos = textures(tmp_path / "photos", 130, kinds=("across", "down"))
    train.run(photos, tmp_path / "model", settings(home, **QUICK, budget=5.0))
    said = fields(tmp_path / "model")
    assert said["strategy"] == "probe"
    assert said["record"]["advice"]["reason"][-1].startswith("Fine-tuning was not tried: of the budget 0 s were left")
    assert said["record"]["settings"]["budget"] == 5


def test_the_end_says_by_how_much_a_budget_was_exceeded(home: Path, tmp_path: Path) -> None:
    manifest = train.run(home / "photos", tmp_path / "model", settings(home, **QUICK, budget=100.0))
    slow, quick = (
        manifest.model_copy(update={"seconds": {**manifest.seconds, "total": total}}) for total in (130.0, 90.0)
    )
    assert "\nThe budget of 100 s was exceeded by 30 s: one pass" in summary(slow, tmp_path)
    assert "budget of" not in summary(quick, tmp_path)
