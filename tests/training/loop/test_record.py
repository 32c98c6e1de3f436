"""Writing the history: lines as the reader wants them, cut where a run goes on, and for TensorBoard if asked."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from graft.errors import UsageError
from graft.training.loop import history
from graft.training.loop.history import Event, read_history
from graft.training.loop.record import Record, truncate

SCORE = history.Score(0.5, {"accuracy": 0.75})
START = history.Start("start", history.Plan(epochs=2), 3, 200, 60, 611, "cpu")
EVENTS: tuple[Event, ...] = (
    START,
    history.Step("step", 5, 0.5, 1.25, 0.1, 900.0, 1.0),
    history.Step("step", 10, 1.0, math.nan, 0.1, 900.0, 2.0),
    history.Epoch("epoch", 1, 10, 0.1, 2.5, SCORE, SCORE, True),
    history.Step("step", 15, 1.5, 0.75, 0.05, 900.0, 3.0),
    history.End("end", "epochs", 1, 4.0),
)


def written(folder: Path) -> Path:
    record = Record(folder, after_step=0, watch=lambda _event: None, tensorboard=False)
    assert not record.begun
    for event in EVENTS:
        record.write(event, {"plan": {"threads": 2}} if event is START else None)
    record.close()
    return folder / "history.jsonl"


def test_the_reader_reads_what_is_written(tmp_path: Path) -> None:
    written(tmp_path)
    found = read_history(tmp_path)
    assert found.start == START
    assert found.epochs == EVENTS[3:4]
    assert [step.step for step in found.steps] == [5, 10, 15]
    assert math.isnan(found.steps[1].loss)
    assert found.end == EVENTS[-1]
    assert json.loads((tmp_path / "history.jsonl").read_text().splitlines()[0])["plan"] == {"threads": 2}


@pytest.mark.parametrize(("step", "left"), [(0, 1), (5, 2), (9, 2), (10, 4), (15, 5), (99, 5)])
def test_a_run_that_goes_on_finds_only_what_came_before(tmp_path: Path, step: int, left: int) -> None:
    path = written(tmp_path)
    whole = path.read_text().splitlines()
    with path.open("a") as stream:
        stream.write('{"kind": "step", "st')  # the line that a kill cut off
    truncate(path, step)
    assert path.read_text().splitlines() == whole[:left]
    record = Record(tmp_path, after_step=step, watch=lambda _event: None, tensorboard=False)
    assert record.begun
    record.close()


def test_a_mute_record_writes_and_shows_nothing(tmp_path: Path) -> None:
    seen: list[Event] = []
    record = Record(tmp_path, after_step=0, watch=seen.append, tensorboard=False, mute=True)
    record.write(START)
    record.close()
    assert record.begun
    assert not seen
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="--tensorboard needs the package tensorboard") as caught:
        Record(tmp_path, after_step=0, watch=lambda _event: None, tensorboard=True)
    assert "pip install tensorboard" in str(caught.value)
    assert not (tmp_path / "history.jsonl").exists()


def test_tensorboard_reads_the_same_numbers_and_not_those_that_a_resumed_run_writes_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def record(events: tuple[Event, ...], after_step: int) -> None:
        writer = Record(tmp_path, after_step=after_step, watch=lambda _event: None, tensorboard=True)
        for event in events:
            writer.write(event)
        writer.close()

    def scalars(name: str) -> dict[int, float]:
        board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        return {each.step: each.value for each in board.Scalars(name)}

    record(EVENTS, 0)
    assert scalars("rate") == pytest.approx({5: 0.1, 10: 0.1, 15: 0.05})
    assert scalars("train/loss")[5] == pytest.approx(1.25)
    assert scalars("val/accuracy") == pytest.approx({10: SCORE.accuracy})
    later = history.Step("step", 15, 1.5, 0.5, 0.025, 900.0, 3.5)
    record((later,), 10)
    assert scalars("rate") == pytest.approx({5: 0.1, 10: 0.1, 15: 0.025})
    assert scalars("train/loss")[15] == pytest.approx(0.5)
