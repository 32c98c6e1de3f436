"""Resuming is exact: after kill −9, a damaged checkpoint, in the middle of an epoch and at its end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graft.errors import BadModel
from graft.training.loop.checkpoint import load_newest
from graft.training.loop.history import Event, read_history
from graft.training.recipe.settings import Recipe
from training import small_runs
from training.small_runs import KILLED, SETTINGS, same_bits, train

PROGRAM = Path(small_runs.__file__)


class Stopped(Exception):
    """The run is to end here, as if it had been killed."""


def stop_at(step: int) -> object:
    def watch(event: Event) -> None:
        if event.kind == "step" and event.step == step:
            raise Stopped

    return watch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("optimizer", ["nesterov", "adamw", "adagrad", "adadelta", "rmsprop", "random-search"])
def test_weights_and_history_are_those_of_a_run_never_stopped(tmp_path: Path, optimizer: str) -> None:
    settings = replace(KILLED, optimizer=optimizer, schedule="plateau", rate=0.01, epochs=2)
    whole = train(tmp_path / "whole", settings)
    for step in (3, 4, 9):  # in the first epoch, twice, and in the second: an epoch has 7 steps
        with pytest.raises(Stopped):
            train(tmp_path / "parts", settings, resume=step > 3, watch=stop_at(step), checkpoint_seconds=0.0)
    parts = train(tmp_path / "parts", settings, resume=True)
    assert same_bits(parts.state, whole.state)
    assert parts.best_epoch == whole.best_epoch
    for once, again in zip(read_history(tmp_path / "whole").steps, read_history(tmp_path / "parts").steps, strict=True):
        assert (once.step, once.loss, once.rate) == (again.step, again.loss, again.rate)
    for first, second in zip(
        read_history(tmp_path / "whole").epochs, read_history(tmp_path / "parts").epochs, strict=True
    ):
        assert (first.train, first.val, first.best) == (second.train, second.val, second.best)


def test_channels_last_and_bfloat16_resume_with_the_same_bits(tmp_path: Path) -> None:
    """A network that goes on in the precision and number of threads that its first part had."""
    settings = replace(SETTINGS, precision="bfloat16", epochs=2)
    torch.set_num_threads(2)
    whole = train(tmp_path / "whole", settings)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", settings, watch=stop_at(15), checkpoint_seconds=0.0)
    torch.set_num_threads(1)
    parts = train(tmp_path / "parts", settings, resume=True)
    assert torch.get_num_threads() == 1  # the caller's own, put back
    assert same_bits(parts.state, whole.state)
    assert parts.precision == "bfloat16"


def test_another_network_given_to_resume_ends_as_the_first(tmp_path: Path) -> None:
    """The first weights come from the checkpoint, not from who resumes."""
    whole = train(tmp_path / "whole", replace(SETTINGS, epochs=1))
    with pytest.raises(Stopped):
        train(tmp_path / "parts", replace(SETTINGS, epochs=1), watch=stop_at(1))
    parts = train(
        tmp_path / "parts", replace(SETTINGS, epochs=1), resume=True, network=small_runs.small_network(seed=9)
    )
    assert same_bits(parts.state, whole.state)


def test_a_damaged_checkpoint_is_passed_over_with_a_notice(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=2)
    whole = train(tmp_path / "whole", settings)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", settings, watch=stop_at(20), checkpoint_seconds=0.0)
    kept = sorted(path.name for path in (tmp_path / "parts").glob("checkpoint-*"))
    assert kept == ["checkpoint-18.safetensors", "checkpoint-19.safetensors"]
    newest = tmp_path / "parts" / "checkpoint-19.safetensors"
    contents = bytearray(newest.read_bytes())
    contents[-5] ^= 1  # one bit of one number
    newest.write_bytes(contents)
    parts = train(tmp_path / "parts", settings, resume=True)
    assert len(parts.notices) == 1
    assert "checkpoint-19.safetensors is damaged" in parts.notices[0]
    assert same_bits(parts.state, whole.state)


def test_no_sound_checkpoint_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, SETTINGS, watch=stop_at(3), checkpoint_seconds=0.0)
    for path in tmp_path.glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadModel, match=r"no checkpoint of .* is sound") as caught:
        train(tmp_path, SETTINGS, resume=True)
    assert "\n" not in str(caught.value)


def test_a_finished_run_resumes_to_its_outcome(tmp_path: Path) -> None:
    whole = train(tmp_path, SETTINGS)
    history = (tmp_path / "history.jsonl").read_text()
    again = train(tmp_path, SETTINGS, resume=True, network=small_runs.small_network(seed=5))
    assert same_bits(again.state, whole.state)
    assert again.why == "epochs"
    assert (tmp_path / "history.jsonl").read_text() == history


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("never_killed")
    torch.set_num_threads(1)
    train(folder, KILLED)
    return folder


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), *sys.path])}
    return subprocess.Popen([sys.executable, str(PROGRAM), str(folder), "3", *words], env=environment)


def test_kill_9_at_random_moments(tmp_path: Path, never_killed: Path) -> None:
    """Killed again and again at moments that no step knows of; whatever is on the disk then must be enough."""
    moments = random.Random(0)
    folder = tmp_path / "killed"
    for _ in range(3):
        before = _steps(folder)
        run = start(folder, *(["resume"] if load_newest_exists(folder) else []))
        while run.poll() is None and _steps(folder) <= before:
            time.sleep(0.01)  # until it trains
        time.sleep(moments.uniform(0.0, 0.15))
        run.send_signal(signal.SIGKILL)
        run.wait()
    run = start(folder, "resume")
    assert run.wait() == 0
    expected, _ = load_newest(never_killed)
    found, _ = load_newest(folder)
    assert expected is not None
    assert found is not None
    assert same_bits(dict(found.tensors), dict(expected.tensors))  # weights, average, momentum
    assert [step.loss for step in read_history(folder).steps] == [
        step.loss for step in read_history(never_killed).steps
    ]


def load_newest_exists(folder: Path) -> bool:
    return any(folder.glob("checkpoint-*.safetensors"))


def _steps(folder: Path) -> int:
    """Lines in the history, of all kinds and also half written ones."""
    path = folder / "history.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def test_settings_survive_the_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, replace(SETTINGS, epochs=1, ema=0.9))
    checkpoint, _ = load_newest(tmp_path)
    assert checkpoint is not None
    assert Recipe(strategy="scratch", **checkpoint.facts["settings"]) == replace(SETTINGS, epochs=1, ema=0.9)
