"""Training from scratch as a job: from pictures to the same model folder that a probe gives, on real digits."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import graft
from graft.classifier.artefact import load
from graft.classifier.rebuild import rebuild
from graft.errors import UsageError
from graft.jobs import train
from graft.training.recipe.read import read_toml, recipe_of, seconds_of
from graft.training.recipe.settings import Recipe

QUICK: dict[str, Any] = {
    "epochs": 12, "batch": 16, "optimizer": "adam", "rate": 0.005, "augment": "none", "precision": "float32"
}  # fmt: skip


def settings(cache: Path, training: dict[str, Any] = QUICK, **others: Any) -> Recipe:
    given: dict[str, Any] = {"strategy": "scratch", "network": "lenet5", "gate": False, "cache": cache, **others}
    return Recipe(**{**training, **given})


def fields(model: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((model / "model.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def lenet(digits: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scratch") / "lenet"
    train.run(digits, folder, settings(session_cache))
    return folder


def test_a_network_that_takes_grey_learns_digits_from_files(lenet: Path) -> None:
    said = fields(lenet)
    assert (said["network"], said["builder"], said["strategy"]) == ("lenet5", "graft", "scratch")
    assert said["test"]["top1"]["value"] >= 0.75  # chance is 0.25
    assert all(counts["test"] == 4 and counts["val"] >= 1 for counts in said["data"]["counts"].values())
    assert len(said["preprocess"]["mean"]) == 1
    assert said["record"]["settings"]["rate"] == 0.005
    assert not lenet.with_name("lenet.training").exists()


def test_predictions_and_golden_pictures_agree_with_pytorch(lenet: Path, digits: Path) -> None:
    model = graft.load(lenet)
    assert model.verify() < 1e-3
    network = rebuild(load(lenet))
    picture = digits / "4" / "00.png"
    grey = np.asarray(Image.open(picture).resize((32, 32), Image.Resampling.BILINEAR), np.float32) / 255
    p = model.classifier.preprocess
    x = torch.from_numpy((grey - p.mean[0]) / p.std[0])[None, None].float()
    with torch.inference_mode():
        expected = torch.softmax(network(x), dim=1)[0].numpy()
    np.testing.assert_allclose(model.predict(picture).probabilities, expected, atol=2e-4)


def test_the_table_of_samples_scores_validation_and_test_only(lenet: Path) -> None:
    with (lenet / "samples.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["part"] for row in rows} == {"train", "val", "test"}
    assert all((row["predicted"] == "") == (row["part"] == "train") for row in rows)


def test_the_settings_and_the_history_are_kept(lenet: Path, session_cache: Path) -> None:
    kept = Recipe(**read_toml((lenet / "settings.toml").read_text()), cache=session_cache)
    assert kept == settings(session_cache)
    kinds = [json.loads(line)["kind"] for line in (lenet / "history.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[-1], kinds.count("epoch")) == ("start", "end", 12)


def test_the_same_seed_gives_the_same_bits(lenet: Path, digits: Path, session_cache: Path, tmp_path: Path) -> None:
    train.run(digits, tmp_path / "again", settings(session_cache))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (lenet / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"normalization": "mean-image"},
        {"activation": "prelu", "dropout": 0.1},
        {"initialization": "he", "ema": 0.9, "loss": "svm"},
        {"mixup": 0.2, "optimizer": "adam", "rate": 0.003},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_what_the_settings_change_is_in_the_model(
    changes: dict[str, Any], digits: Path, session_cache: Path, tmp_path: Path
) -> None:
    training = {"epochs": 2, "batch": 16, "rate": 0.05, "augment": "none", **changes}
    train.run(digits, tmp_path / "m", settings(session_cache, training))
    model = load(tmp_path / "m")
    whole = torch.nn.Sequential(rebuild(model), torch.nn.Softmax(dim=1))
    from graft.classifier.artefact import MEAN_OFFSET
    from graft.runtime.export import pixels_first

    module = pixels_first(whole, model.preprocess.mean, model.preprocess.std, model.tensors().get(MEAN_OFFSET))
    for golden in model.golden():
        with torch.inference_mode():
            given = module(torch.from_numpy(golden.pixels[None].copy()))[0].numpy()
        np.testing.assert_allclose(given, golden.probabilities, atol=1e-4)


def test_a_colour_network_of_timm_trains_too(digits: Path, session_cache: Path, tmp_path: Path) -> None:
    training = {"epochs": 1, "batch": 16, "augment": "none"}
    train.run(digits, tmp_path / "m", settings(session_cache, training, network="timm:resnet10t", size=32))
    said = fields(tmp_path / "m")
    assert (said["builder"], said["architecture"], said["preprocess"]["size"]) == ("timm", "resnet10t", 32)
    assert graft.load(tmp_path / "m").verify() < 1e-3


def test_a_killed_run_goes_on_where_it_was(lenet: Path, digits: Path, session_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = ["train", str(digits), "--out", str(out), "--strategy", "scratch", "--network", "lenet5", "--no-gate"]
    command += ["--cache", str(session_cache), "--epochs", "12", "--batch", "16"]
    command += ["--rate", "0.005", "--optimizer", "adam"]
    command += ["--augment", "none", "--precision", "float32"]
    code = "import sys; from graft.cli.app import main; sys.argv[0] = 'graft'; main()"
    started = subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.DEVNULL)
    history = out.with_name("killed.training") / "history.jsonl"
    deadline = time.monotonic() + 90
    while not (history.exists() and history.read_text().count('"epoch"') >= 4) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not out.exists()
    with pytest.raises(UsageError, match=r"^[^\n]*--resume[^\n]*$"):
        train.run(digits, out, settings(session_cache))
    train.run(digits, out, settings(session_cache, resume=True))
    assert (out / "model.safetensors").read_bytes() == (lenet / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "lenet6"}, "lenet5"),
        ({"network": "alphago_policy"}, "planes"),
        ({"size": 64}, "32 pixels only"),
        ({"resume": True}, "no stopped run"),
    ],
)
def test_mistakes_get_one_line(
    changes: dict[str, Any], said: str, digits: Path, session_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        train.run(digits, tmp_path / "m", settings(session_cache, **changes))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_settings_of_another_strategy_are_refused() -> None:
    with pytest.raises(UsageError, match="add --strategy scratch"):
        Recipe(size=64)
    with pytest.raises(UsageError, match="nothing is trained for a probe"):
        Recipe(strategy="probe", epochs=7)
    with pytest.raises(UsageError, match="activation"):
        Recipe(activation="tanh")
    with pytest.raises(UsageError, match="pretrained"):
        Recipe(strategy="scratch", weights=Path("w.pt"))
    with pytest.raises(UsageError, match="auto, probe, finetune, scratch"):
        Recipe(strategy="scrach")  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("5m", 300), ("1.5h", 5400), ("2 s", 2)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "-5m", "5 minutes", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 90s, 5m or"):
        seconds_of(text)


@pytest.mark.parametrize("strategy", ["scratch", "finetune", "auto"])
def test_flags_win_over_the_file_and_the_file_over_the_strategy_s_defaults(tmp_path: Path, strategy: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text('epochs = 3\noptimizer = "adam"\nseed = 5\nclass_weights = "balanced"\n')
    found = recipe_of({"strategy": strategy, "epochs": 7, "rate": None, "budget": "2m", "seed": None}, file=file)
    given: dict[str, Any] = {"epochs": 7, "optimizer": "adam", "budget": 120, "seed": 5, "class_weights": "balanced"}
    assert found == Recipe(strategy=strategy, **given)  # type: ignore[arg-type]
    again = recipe_of({"strategy": strategy, "seed": 6, "class_weights": "none"}, file=file)
    assert again == Recipe(strategy=strategy, epochs=3, optimizer="adam", seed=6)  # type: ignore[arg-type]
    file.write_text(f'strategy = "{strategy}"\n')
    assert recipe_of({}, file=file) == Recipe(strategy=strategy)  # type: ignore[arg-type]


def test_fine_tuning_has_defaults_of_its_own_which_step_aside() -> None:
    usual = Recipe(strategy="finetune")
    assert (usual.optimizer, usual.rate, usual.mixup, usual.label_smoothing) == ("adamw", 1e-4, 0.2, 0.1)
    assert usual.frozen_statistics
    nine = Recipe(strategy="finetune", epochs=9)
    assert Recipe(**read_toml(nine.to_toml())) == nine
    assert replace(Recipe(strategy="probe"), seed=1) == Recipe(strategy="probe", seed=1)
    assert Recipe(optimizer="momentum").rate is None  # its own usual one
    assert (Recipe(cutmix=1.0).mixup, Recipe(cutmix=1.0).cutmix) == (0.0, 1.0)
    assert Recipe(loss="svm").label_smoothing == 0
    with pytest.raises(UsageError, match="one of mixup and cutmix"):
        Recipe(cutmix=1.0, mixup=0.2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "finetune", "activation": "tanh"}, "activation: a pretrained network keeps"),
        ({"strategy": "auto", "initialization": "he"}, "initialization: a pretrained network"),
        ({"strategy": "auto", "normalization": "none"}, "normalization: a pretrained network"),
        ({"strategy": "probe", "resume": True}, "resume: nothing is trained for a probe"),
        ({"strategy": "probe", "freeze": "none"}, "freeze: for fine-tuning only"),
        ({"strategy": "scratch", "freeze": "conv1"}, "freeze: for fine-tuning only"),
        ({"strategy": "finetune", "size": 64}, "size: for training from scratch only"),
    ],
)
def test_what_another_strategy_has_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}[^\n]*$"):
        Recipe(**given)
