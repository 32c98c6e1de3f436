"""Fine-tuning as a job, on drawn textures and a small network: what it learns, keeps, resumes and refuses."""

from __future__ import annotations

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

import graft
from graft.classifier.artefact import load
from graft.classifier.rebuild import rebuild
from graft.errors import BadModel, UsageError
from graft.evaluate.calibration import softmax
from graft.features.trunk import FEATURES
from graft.finetune import phases
from graft.finetune import tuned as tuned_module
from graft.heads.probe import fit_probe
from graft.heads.rbf import fit_rbf
from graft.jobs import train
from graft.run import finetune
from graft.run.probe import LastHead
from graft.run.transfer import Transfer
from graft.runtime.export import pixels_first
from graft.runtime.onnx import OnnxRunner
from graft.training.loop import fit as loop
from graft.training.loop.history import Epoch, Event, Start
from graft.training.recipe.settings import Recipe
from run.textures import NETWORK, drawn_weights, textures

QUICK: dict[str, Any] = {
    "epochs": 3, "batch": 16, "rate": 2e-4, "ema": 0.9, "augment": "light", "label_smoothing": 0.0,
    "precision": "float32", "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, 90 textures of three classes, `weights.safetensors` for the network, and a cache."""
    folder = tmp_path_factory.mktemp("finetune")
    textures(folder / "photos", 30)
    drawn_weights(folder / "weights.safetensors")
    return folder


def settings(home: Path, training: Any = QUICK, **others: Any) -> Recipe:
    given = {"strategy": "finetune", "network": NETWORK, "weights": home / "weights.safetensors"}
    return Recipe(**{**training, **given, "cache": home / "cache", **others})


def fields(model: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((model / "model.json").read_text())
    return loaded


def weights(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def tuned(home: Path) -> Path:
    """A model tuned from `layer3` up."""
    train.run(home / "photos", home / "tuned", settings(home, freeze="layer2"))
    return home / "tuned"


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    """A model whose whole network is tuned, in two phases."""
    train.run(home / "photos", home / "whole", settings(home, freeze="none"))
    return home / "whole"


def test_it_learns_and_the_record_says_how(tuned: Path) -> None:
    said = fields(tuned)
    assert said["strategy"] == "finetune"
    assert said["test"]["n"] == 18
    assert said["test"]["top1"]["low"] > 1 / 3  # chance
    record = said["record"]
    assert (record["cut"], record["maps"]["cut"], record["maps"]["views"]) == ("layer3", "layer3", 3)
    (phase,) = record["phases"]
    assert (phase["epochs"], phase["batch"], phase["ended"]) == (3, 16, "epochs")
    counts = {part: sum(each[part] for each in said["data"]["counts"].values()) for part in ("train", "val", "test")}
    assert sum(counts.values()) == 90
    full, small = (48 * side * side * 2 + 16 for side in (20, 16))  # of pictures of 160² and of 128²
    assert record["maps"]["small"] == 2
    assert record["maps"]["bytes"] == (counts["train"] + counts["val"]) * full + 2 * counts["train"] * small
    assert not tuned.with_name("tuned.training").exists()


def test_the_layers_below_the_cut_are_as_they_were_and_those_above_are_not(tuned: Path, home: Path) -> None:
    from safetensors.numpy import load_file

    before, after = load_file(home / "weights.safetensors"), load(tuned).tensors()
    same = {name: np.array_equal(after[name], before[name]) for name in before if not name.startswith("fc.")}
    lower = [name for name in same if name.startswith(("conv1", "bn1", "layer1", "layer2"))]
    assert all(same[name] for name in lower)
    convolutions = [name for name in same if name not in lower and after[name].ndim == 4]
    assert convolutions
    assert not any(same[name] for name in convolutions)
    statistics = [name for name in same if name.endswith(("running_mean", "running_var"))]
    assert all(same[name] for name in statistics)  # frozen unless asked


def test_graph_golden_pictures_and_rebuilt_network_agree(tuned: Path, home: Path) -> None:
    assert graft.load(tuned).verify() < 1e-3
    model = load(tuned)
    module = torch.nn.Sequential(
        pixels_first(rebuild(model), model.preprocess.mean, model.preprocess.std), torch.nn.Softmax(dim=1)
    )
    for golden in model.golden():
        with torch.inference_mode():
            given = module(torch.from_numpy(golden.pixels[None].copy()))[0].numpy()
        np.testing.assert_allclose(given, golden.probabilities, atol=1e-4)
    (said,) = graft.load(tuned).predict([home / "photos" / "down" / "000.png"])
    assert said.label == "down"


def test_the_head_begins_as_a_probe_that_never_saw_the_validation_pictures(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is learnt at a rate of next to nothing: what is left is the head that was given."""
    seen: dict[str, Any] = {}

    def noted(rows: Any, labels: Any, fold: Any, **given: Any) -> Any:
        seen["probe"] = fit_probe(rows, labels, fold, **given)
        seen["rows"] = rows.read(slice(None))
        return seen["probe"]

    def watched(transfer: Any, *given: Any, **named: Any) -> Any:
        seen["transfer"] = transfer
        seen["tuned"] = tune(transfer, *given, **named)
        return seen["tuned"]

    def fitted(network: Any, learnt: Any, chosen_by: Any, *given: Any, **named: Any) -> Any:
        sources.extend((learnt, chosen_by))
        return loop.fit(network, learnt, chosen_by, *given, **named)

    tune = finetune.tune
    monkeypatch.setattr(finetune, "fit_probe", noted)
    monkeypatch.setattr(finetune, "tune", watched)
    monkeypatch.setattr(finetune, "last_head", lambda _transfer, own, *_rest: LastHead(own, "its own"))
    sources: list[Any] = []
    monkeypatch.setattr(
        phases, "fit", lambda *given, **named: (sources.extend(given[1:3]), loop.fit(*given, **named))[1]
    )
    still = {**QUICK, "epochs": 1, "rate": 1e-12, "weight_decay": 0.0, "ema": None}
    train.run(home / "photos", tmp_path / "still", settings(home, still, freeze="layer3"))
    tensors = load(tmp_path / "still").tensors()
    np.testing.assert_allclose(tensors["fc.weight"], seen["probe"].weight, atol=1e-9)
    np.testing.assert_allclose(tensors["fc.bias"], seen["probe"].bias, atol=1e-9)

    learnt, chosen_by = sources
    dataset, trunk = seen["tuned"][0].dataset, seen["transfer"].trunk
    assert len(chosen_by) == len(dataset.indices("val")) >= 3
    assert set(learnt.ids) == set(dataset.indices("train"))
    assert set(learnt.ids).isdisjoint(chosen_by.ids)
    assert set(learnt.ids).isdisjoint(dataset.indices("test"))
    rows = dataset.features.rows(dataset.indices("train"), trunk.columns(FEATURES)).read(slice(None))
    np.testing.assert_array_equal(seen["rows"], rows)


def test_a_head_chosen_anew_on_stages_of_the_tuned_network_is_one_network_in_graph_and_pytorch(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is a kernel machine on two stages."""
    seen: dict[str, Any] = {}

    def anew(tuned: Transfer, *_rest: Any) -> LastHead:
        stages = ("layer2", "features")
        rows = tuned.rows(tuned.dataset.indices("train"), stages)
        labels = tuned.dataset.labels[tuned.dataset.indices("train")]
        head = fit_rbf(rows, labels, tuned.fold, num_classes=3).head
        seen["tuned"], seen["head"] = tuned, replace(head, reads=stages)
        return LastHead(seen["head"], "asked for")

    monkeypatch.setattr(finetune, "last_head", anew)
    train.run(home / "photos", tmp_path / "model", settings(home, freeze="layer2"))
    model = load(tmp_path / "model")
    assert (model.manifest.head.kind, model.manifest.head.reads) == ("rbf", ("layer2", "features"))
    pixels = np.stack([golden.pixels for golden in model.golden()])
    network = rebuild(model)
    with torch.inference_mode():
        given = torch.softmax(pixels_first(network, model.preprocess.mean, model.preprocess.std)(
            torch.from_numpy(pixels.copy())), dim=1).numpy()  # fmt: skip
    np.testing.assert_allclose(OnnxRunner(model.graph)(pixels), given, atol=5e-4)
    in_test = seen["tuned"].dataset.indices("test")
    first = [in_test[seen["tuned"].dataset.labels[in_test] == label][0] for label in range(3)]
    logits = seen["head"].logits(seen["tuned"].rows(np.array(first), ("layer2", "features")).read(slice(None)))
    np.testing.assert_allclose(given, softmax(logits), atol=5e-3)  # its features went through float16
    assert graft.load(tmp_path / "model").verify() < 1e-3


def test_all_is_tuned_top_down_in_two_phases(whole: Path) -> None:
    record = fields(whole)["record"]
    assert record["cut"] == "all"
    assert [phase["epochs"] for phase in record["phases"]] == [3, 1]
    assert record["maps"]["cut"] in ("layer1", "layer2", "layer3", "layer4")
    assert graft.load(whole).verify() < 1e-3
    assert fields(whole)["test"]["top1"]["low"] > 1 / 3


class Stopped(Exception):
    """What interrupts a run in these tests."""


def test_a_run_that_was_interrupted_in_its_second_phase_ends_with_the_same_bits(
    whole: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phase on pictures, which follows that on kept maps where all is tuned; it goes on from its first epoch."""
    monkeypatch.setattr(loop, "EPOCH_SECONDS", 0.0)
    begun = 0

    def stopping(event: Event) -> None:
        nonlocal begun
        begun += isinstance(event, Start)
        if begun == 2 and isinstance(event, Epoch):
            raise Stopped

    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train.run(home / "photos", out, settings(home, freeze="none"), watch=stopping)
    assert not out.exists()
    with pytest.raises(UsageError, match=r"was stopped before its end; go on with --resume"):
        train.run(home / "photos", out, settings(home, freeze="none"))
    with pytest.raises(UsageError, match="other pictures or another network; begin anew with --force"):
        train.run(home / "photos", out, settings(home, freeze="none", resume=True, fit="crop", test_fraction=0.3))
    train.run(home / "photos", out, settings(home, freeze="none", resume=True))
    assert weights(out) == weights(whole)


@pytest.mark.parametrize("moment", ["maps", "steps"])
def test_a_killed_run_ends_with_the_same_bits(moment: str, tuned: Path, home: Path, tmp_path: Path) -> None:
    """Signal 9 while maps are made, of which nothing is known yet, and in the middle of the phase on them."""
    out, toml = tmp_path / "killed", tmp_path / "run.toml"
    cache = home / "cache" if moment == "steps" else tmp_path / "cache"
    toml.write_text(Recipe(strategy="finetune", **QUICK).to_toml())
    code = "import sys, torch; torch.set_num_threads(1); from graft.cli.app import main; sys.argv[0] = 'graft'; main()"
    command = [sys.executable, "-c", code, "train", str(home / "photos"), "--out", str(out), "--strategy", "finetune"]
    command += ["--network", NETWORK, "--weights", str(home / "weights.safetensors")]
    command += ["--cache", str(cache), "--freeze", "layer2", "--settings", str(toml)]
    history = out.with_name("killed.training") / "upper" / "history.jsonl"
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    if moment == "maps":
        begun = any(line.startswith("running the frozen layers") for line in run.stderr)
    else:
        deadline, begun = time.monotonic() + 90, False
        while not begun and time.monotonic() < deadline:
            begun = history.exists() and '"step"' in history.read_text()
            time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert begun
    assert history.exists() == (moment == "steps")
    assert not out.exists()
    train.run(home / "photos", out, settings(home, freeze="layer2", cache=cache, resume=True))
    assert weights(out) == weights(tuned)


def test_training_pictures_go_through_the_upper_part_only_and_come_out_as_from_the_whole(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Transfer] = {}
    on_the_tuned = finetune._on_the_tuned

    def elsewhere(transfer: Transfer, name: str) -> Transfer:
        place = replace(transfer.workplace, state=transfer.workplace.state / name)
        return replace(transfer, workplace=place)

    def both(transfer: Transfer, built: Any, below: Any) -> Transfer:
        assert below[0] == "layer3"
        found["maps"] = on_the_tuned(transfer, built, below)
        found["whole"] = on_the_tuned(elsewhere(transfer, "again"), built, None)
        with monkeypatch.context() as patched:
            patched.setattr(tuned_module, "upper_in_trunk", lambda *_: None)
            found["not cut"] = on_the_tuned(elsewhere(transfer, "not cut"), built, below)
        return found["maps"]

    monkeypatch.setattr(finetune, "_on_the_tuned", both)
    train.run(home / "photos", tmp_path / "m", settings(home, {**QUICK, "epochs": 1}, freeze="layer2"))
    dataset = found["maps"].dataset
    trained, everything = dataset.indices("train"), np.arange(len(dataset.labels))
    assert dataset.features.computed == len(everything) - len(trained) > 0
    expected, rows = (found[way].dataset.features.rows(everything).read(slice(None)) for way in ("whole", "maps"))
    for way in ("whole", "not cut"):
        assert found[way].dataset.features.computed == len(everything)
    assert np.abs(expected[trained]).max() > 0.5
    np.testing.assert_allclose(rows, expected, rtol=0.01, atol=0.002 * np.abs(expected).max())


def test_the_network_s_regularisers_and_balanced_classes_apply(home: Path, tmp_path: Path) -> None:
    """A class with a third of the pictures of the others; dropout and stochastic depth leave the names as they are."""
    photos = textures(tmp_path / "photos", 24, kinds=("across", "down"))
    textures(tmp_path / "more", 8, kinds=("check",))
    (tmp_path / "more" / "check").rename(photos / "check")
    training = {**QUICK, "epochs": 1, "dropout": 0.2, "class_weights": "balanced", "mixup": 0.0, "cutmix": 0.5}
    chosen = settings(home, training, class_weights="balanced", freeze="layer3")
    train.run(photos, tmp_path / "model", chosen)
    record = fields(tmp_path / "model")["record"]
    assert (record["settings"]["dropout"], record["settings"]["class_weights"]) == (0.2, "balanced")
    assert record["settings"]["class_weights"] == "balanced"
    assert graft.load(tmp_path / "model").verify() < 1e-3
    rebuild(load(tmp_path / "model"))


def test_a_batch_that_nobody_asked_for_suits_the_training_pictures(home: Path, tmp_path: Path) -> None:
    photos = textures(tmp_path / "few", 6)
    train.run(photos, tmp_path / "model", settings(home, {"epochs": 1, "precision": "float32"}, freeze="layer3"))
    said = fields(tmp_path / "model")
    learnt_from = sum(each["train"] for each in said["data"]["counts"].values())
    assert said["record"]["settings"]["batch"] == 8 <= learnt_from
    with pytest.raises(UsageError, match=f"batch must be at most the {learnt_from} pictures"):
        train.run(photos, tmp_path / "another", settings(home, {"batch": 32}, freeze="layer3"))
    assert not (tmp_path / "another").exists()


def test_patience_ends_the_phase_on_maps(home: Path, tmp_path: Path) -> None:
    """Nothing is learnt at such a rate, so the second epoch is no better than the first."""
    patient = {**QUICK, "patience": 1, "rate": 1e-30, "weight_decay": 0.0, "epochs": 5}
    train.run(home / "photos", tmp_path / "model", settings(home, patient, freeze="layer2"))
    record = fields(tmp_path / "model")["record"]
    (phase,) = record["phases"]
    assert (phase["ended"], phase["epochs"], phase["best_epoch"]) == ("patience", 2, 1)
    assert (record["maps"]["views"], record["maps"]["small"]) == (4, 0)


def test_a_budget_smaller_than_possible_still_takes_one_view_and_a_step(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine of which a view of all pictures would take a minute."""
    monkeypatch.setattr(finetune, "seconds_per_view", lambda *_given, **_named: 60.0)
    train.run(home / "photos", tmp_path / "m", settings(home, {**QUICK, "budget": 0.5}, freeze="layer2"))
    record = fields(tmp_path / "m")["record"]
    assert record["maps"]["views"] == 1
    (phase,) = record["phases"]
    assert phase["epochs"] >= 1
    assert phase["ended"] == "budget"
    assert phase["seconds"] < 6  # it plans for one; timing the first steps comes on top


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze": "layer5"},
            "--freeze must be none or a stage below the last, stem, .*, got 'layer5'.*did you mean",
        ),
        ({"freeze": "layer4"}, "below the last, stem, layer1, layer2, layer3, got 'layer4'"),
        ({"resume": True}, "there is no stopped run to resume"),
    ],
)
def test_mistakes_get_one_line(home: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train.run(home / "photos", tmp_path / "m", settings(home, **changes))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_parts_that_disagree_are_refused() -> None:
    whole = np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)
    finetune.check_agreement(whole, whole + np.float32([[0.01, -0.01]]))
    finetune.check_agreement(np.empty((0, 2), np.float32), np.empty((0, 2), np.float32))
    with pytest.raises(BadModel, match=r"differ by 0\.030 of a probability, allowed is 0\.02"):
        finetune.check_agreement(whole, whole + np.float32([[0.03, -0.03]]))
    with pytest.raises(BadModel):
        finetune.check_agreement(whole, np.full((2, 2), np.nan, np.float32))
