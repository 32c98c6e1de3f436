"""The live view: what it shows of a run, on a terminal and without one."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from graft.cli import live
from graft.training.loop.history import End, Epoch, Event, Plan, Score, Start, Step


def start(epochs: int | None = 4, budget: float | None = None) -> Start:
    return Start("start", Plan(epochs=epochs, budget=budget), 10, 12_000, 3_000, 61_706, "cpu")


def step(at: float, loss: float = 1.0, seconds: float = 10.0) -> Step:
    return Step("step", int(100 * at), at, loss, 0.05, 5210.4, seconds)


def epoch(number: int, accuracy: float, *, best: bool = True, seconds: float = 10.0) -> Epoch:
    score = Score(0.5, {"accuracy": accuracy})
    return Epoch("epoch", number, 100 * number, 0.05, seconds, score, Score(0.6, {"accuracy": accuracy - 0.1}), best)


END = End("end", "epochs", 2, 83.2)


def seen(*events: Event) -> live.Seen:
    state = live.Seen()
    for event in events:
        state.take(event)
    return state


def shown(state: live.Seen, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=True).print(live.screen(state, width))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("state", "done", "left"),
    [
        (seen(start(epochs=4), step(1.0, seconds=10)), 0.25, 30.0),
        (seen(start(epochs=4), step(1.0, seconds=10), epoch(2, 0.9, seconds=25)), 0.5, 25.0),
        (seen(start(epochs=10, budget=60), step(1.0, seconds=15)), 0.25, 45.0),
        (seen(start(epochs=4), epoch(4, 0.9, seconds=40)), 1.0, 0.0),
        (seen(start(epochs=4)), 0.0, None),
        (seen(start(epochs=None), step(1.0)), 0.0, None),
        (seen(), 0.0, None),
    ],
)
def test_time_left_follows_epochs_or_the_budget(state: live.Seen, done: float, left: float | None) -> None:
    assert state.done() == pytest.approx(done)
    assert state.seconds_left() == (None if left is None else pytest.approx(left))


def test_clock() -> None:
    assert [live.clock(seconds) for seconds in (0.4, 48, 59.6, 65, 7207)] == ["0 s", "48 s", "1:00", "1:05", "2:00:07"]


def test_a_screen_has_curves_rate_speed_time_left_and_the_best() -> None:
    state = seen(
        start(), step(0.5, 2.3), step(1, 1.2), epoch(1, 0.8), step(2, 0.9, 20), epoch(2, 0.7, best=False, seconds=20)
    )
    text = shown(state)
    assert "epoch 2/4; rate 0.05; 5,210 pictures/s; 20 s left" in text
    assert "best so far: 70.00 % of validation in epoch 1" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "training ended" not in text
    state.take(END)
    assert "training ended (epochs) after 1:23; best in epoch 2" in shown(state)


def test_a_plot_runs_from_its_highest_to_its_lowest_value() -> None:
    lines = [line.plain for line in live.plot("accuracy, %", [(0, 10.0), (4, 90.0)], [], 27, 4.0)]
    assert lines[0].split() == ["accuracy,", "%"]
    rows = lines[1:]
    assert [row[:6].strip() for row in rows] == ["90", "", "", "", "", "", "", "10"]
    dots = [row[7:] for row in rows]
    assert {len(row) for row in dots} == {20}
    assert dots[-1][0] == "⡠", "the lowest dot is at the bottom left, and the line goes up from it"
    first = [next(i for i, cell in enumerate(row) if cell != "⠀") for row in dots]
    assert first == sorted(first, reverse=True), "a rising line"
    assert dots[0].rstrip("⠀") == dots[0], "it ends at the right edge"


def test_half_a_run_takes_half_the_plot() -> None:
    rows = [line.plain[7:] for line in live.plot("loss", [(0, 1.0), (2, 0.5)], [], 27, 4.0)[1:]]
    assert max(len(row.rstrip("⠀")) for row in rows) == 11, "20 cells; the 11th begins at the half"


def test_a_loss_over_decades_is_drawn_by_its_logarithm() -> None:
    points = [(0.0, 1000.0), (2.0, 1.0), (4.0, 0.001)]
    assert _row_of_middle("loss", points) in (3, 4)
    assert _row_of_middle("accuracy, %", points) == 7


def _row_of_middle(title: str, points: live.Points) -> int:
    rows = [line.plain[7:] for line in live.plot(title, points, [], 27, 4.0)[1:]]
    return next(i for i, row in enumerate(rows) if row[10] != "⠀")


def test_losses_that_are_not_finite_are_left_out() -> None:
    state = seen(start(), step(0.5, 2.0), step(1.0, float("nan")), step(1.5, float("inf")), step(2.0, 1.0))
    assert "nan" not in shown(state)
    assert "inf" not in shown(state)
    shown(seen(start(), step(0.5, float("nan"))))


@pytest.mark.parametrize("events", [[], [start()], [start(), step(0.01)], [start(), step(1.0, 1.0), step(2.0, 1.0)]])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_beginning_fits_any_width(events: list[Event], width: int) -> None:
    assert max(map(len, shown(seen(*events), width).splitlines())) <= width


def test_without_a_terminal_it_prints_plain_lines() -> None:
    stream = io.StringIO()
    with live.live_view(Console(file=stream)) as watch:
        for event in (start(), step(0.5), step(0.6), epoch(1, 0.85), epoch(2, 0.8, best=False, seconds=20), END):
            watch(event)
    pace = "; rate 0.05; 5,210 pictures/s; "
    assert stream.getvalue().splitlines() == [
        "training 61,706 parameters on 12,000 pictures of 10 classes, validated on 3,000, on cpu",
        "epoch 1/4: loss 0.5, right on 85.0 %; validation 0.6, 75.0 %, the best so far" + pace + "30 s left",
        "epoch 2/4: loss 0.5, right on 80.0 %; validation 0.6, 70.0 %" + pace + "20 s left",
        "training ended (epochs) after 1:23; best in epoch 2",
    ]


def test_a_long_epoch_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with live.live_view(Console(file=stream)) as watch:
        for i in range(1, 31):
            now[0] = float(i)
            watch(step(i / 100, loss=i))
    assert [line.split(";")[0] for line in stream.getvalue().splitlines()] == [
        "epoch 0.1: loss 10", "epoch 0.2: loss 20", "epoch 0.3: loss 30",
    ]  # fmt: skip


def test_on_a_terminal_it_draws_in_place_and_leaves_the_last_picture() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    console = Console(file=stream, force_terminal=True, width=80, height=30)
    with live.live_view(console) as watch:
        for event in (start(), step(0.5, 2.0), epoch(1, 0.85), END):
            watch(event)
    stream.seek(0)
    text = stream.read()
    assert "\x1b[1A" in text, "the cursor goes up to draw over what it drew"
    assert "\x1b[?25h" in text, "the cursor is shown again"
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    assert last.rstrip().endswith("training ended (epochs) after 1:23; best in epoch 2")


def test_a_terminal_that_cannot_draw_braille_gets_plain_lines() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    with live.live_view(Console(file=stream, force_terminal=True)) as watch:
        watch(start())
        watch(END)
    stream.seek(0)
    assert stream.read().splitlines()[1] == "training ended (epochs) after 1:23; best in epoch 2"
