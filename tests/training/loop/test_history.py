"""`history.jsonl` read back: every field, a run at work, a resumed run, and each thing that can be wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from graft.errors import BadModel
from graft.training.loop.history import End, Epoch, Plan, Score, Start, Step, read_history

START = {
    "kind": "start", "settings": {"epochs": 2, "schedule": "cosine", "rate": None, "seed": 0}, "classes": 10,
    "train": 100, "val": 20, "parameters": 7, "device": "cpu", "threads": 2,
}  # fmt: skip
END = {"kind": "end", "why": "epochs", "best_epoch": 2, "seconds": 9.5}


def step(number: int, loss: float | None = 2.0) -> dict[str, Any]:
    return {
        "kind": "step", "step": number, "epoch": number / 10, "loss": loss, "rate": 0.1, "pictures_per_second": 50,
        "seconds": 1,
    }  # fmt: skip


def epoch(number: int, accuracy: float = 0.5) -> dict[str, Any]:
    score = {"loss": 1.5, "accuracy": accuracy}
    return {
        "kind": "epoch", "epoch": number, "step": 10 * number, "rate": 0.05, "seconds": 4.0, "train": score,
        "val": score, "best": True,
    }  # fmt: skip


def written(path: Path, *lines: Any, tail: str = "\n") -> Path:
    file = path / "history.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + tail, encoding="utf-8")
    return file


def test_every_line_becomes_what_it_says(tmp_path: Path) -> None:
    written(tmp_path, START, step(5), {**epoch(1), "val": None}, step(15, loss=None), epoch(2), END)
    history = read_history(tmp_path)
    assert history.start == Start("start", Plan(epochs=2, schedule="cosine"), 10, 100, 20, 7, "cpu")
    assert history.steps[0] == Step("step", 5, 0.5, 2.0, 0.1, 50.0, 1.0)
    assert math.isnan(history.steps[1].loss), "null stands for a loss that is not finite"
    assert history.epochs[0] == Epoch("epoch", 1, 10, 0.05, 4.0, Score(1.5, {"accuracy": 0.5}), None, True)
    assert history.epochs[1].val == Score(1.5, {"accuracy": 0.5})
    assert history.end == End("end", "epochs", 2, 9.5)


def test_folder_and_file_are_the_same_run(tmp_path: Path) -> None:
    file = written(tmp_path, START, step(5))
    assert read_history(tmp_path) == read_history(file)


@pytest.mark.parametrize("tail", ["\n", "\n{", '\n{"kind": "step", "st', "\n\xe9"])
def test_a_run_at_work_may_end_in_half_a_line(tmp_path: Path, tail: str) -> None:
    history = read_history(written(tmp_path, START, step(5), tail=tail))
    assert [one.step for one in history.steps] == [5]
    assert history.end is None


def test_a_whole_last_line_counts_without_its_newline(tmp_path: Path) -> None:
    assert read_history(written(tmp_path, START, step(5), END, tail="")).end is not None


def test_what_a_resumed_run_wrote_again_counts_once(tmp_path: Path) -> None:
    lines = [START, step(5), step(10), epoch(1, 0.4), step(15, 3.0), END, step(12), step(15), step(20), epoch(2)]
    history = read_history(written(tmp_path, *lines))
    assert [(one.step, one.loss) for one in history.steps] == [(5, 2.0), (10, 2.0), (12, 2.0), (15, 2.0), (20, 2.0)]
    assert [one.epoch for one in history.epochs] == [1, 2]
    assert history.end is None, "it went on after it had ended"

    again = [START, step(5), step(10), epoch(1, 0.4), step(5), step(10), epoch(1, 0.6)]
    history = read_history(written(tmp_path, *again))
    assert [one.step for one in history.steps] == [5, 10]
    assert [one.train.accuracy for one in history.epochs] == [0.6]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([START, "{", step(5)], r"line 2, is not a line that the training loop writes \(Invalid JSON"),
        ([START, step(5), ""], r"line 3, .*Invalid JSON"),
        ([START, [1, 2]], "line 2, .*object"),
        ([START, {"kind": "stop"}], "line 2, .*'stop'"),
        ([START, {"loss": 2}], "line 2, .*kind"),
        ([START, {**step(5), "loss": "low"}], "line 2, .*loss: .*number"),
        ([START, {**step(5), "step": -1}], "line 2, .*step: .*0"),
        ([START, {**step(5), "step": 1.5}], "line 2, .*step: .*integer"),
        ([START, {key: value for key, value in step(5).items() if key != "rate"}], "line 2, .*rate: .*required"),
        ([START, epoch(1, accuracy=85.0)], "line 2, .*train.accuracy: .*1"),
        ([{**START, "classes": 1}], "line 1, .*classes: .*2"),
        ([step(5)], "line 1, must say how the run started"),
    ],
)
def test_any_other_line_is_refused_by_its_number(tmp_path: Path, lines: list[Any], words: str) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    with pytest.raises(BadModel, match=words) as caught:
        read_history(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_probe_s_history_is_named_as_such(tmp_path: Path) -> None:
    written(tmp_path, {"strength": 0.1, "cross_validated_log_loss": 0.4, "cross_validated_accuracy": 0.9})
    with pytest.raises(BadModel, match="was not trained by the loop") as caught:
        read_history(tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    written(tmp_path, tail="")
    with pytest.raises(BadModel, match="has only begun"):
        read_history(tmp_path)
    (tmp_path / "first-run").mkdir()
    with pytest.raises(BadModel, match=r"there is no .*first-run.*history\.jsonl"):
        read_history(tmp_path / "first-run")
    with pytest.raises(BadModel, match="did you mean 'first-run'"):
        read_history(tmp_path / "first-rum")
    with pytest.raises(BadModel, match="cannot be read"):
        read_history(written(tmp_path, START) / "below")
