"""Training as it happens, on standard error: curves on a terminal that can draw them, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graft.training.loop.history import End, Epoch, Event, Start, Step

Watch = Callable[[Event], None]
"""Called with each line of the history as the loop writes it."""

Points = Sequence[tuple[float, float]]

_LINE_EVERY: Final = 10.0  # seconds between plain lines within an epoch
_DRAW_EVERY: Final = 0.2  # seconds between pictures on a terminal: drawing takes a few milliseconds of training's time
_ROWS: Final = 8  # of a plot, in characters
_WIDEST: Final = 100  # characters; wider curves show no more
_LABEL: Final = 7  # characters of a plot's numbers
_SMOOTHING: Final = 20  # a moving average spans this part of the records
_BRAILLE: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a cell's dots, 4 rows of 2
TRAIN, VAL = "cyan", "yellow"


@dataclass
class Seen:
    """What a run has said so far."""

    start: Start | None = None
    step: Step | None = None
    epoch: Epoch | None = None
    best: Epoch | None = None
    end: End | None = None
    losses: list[tuple[float, float]] = field(default_factory=list)
    val_losses: list[tuple[float, float]] = field(default_factory=list)
    accuracies: list[tuple[float, float]] = field(default_factory=list)  # percent
    val_accuracies: list[tuple[float, float]] = field(default_factory=list)  # percent

    def take(self, event: Event) -> None:
        """Add an event."""
        if isinstance(event, Start):
            self.start = event
        elif isinstance(event, Step):
            self.step = event
            self.losses.append((event.epoch, event.loss))
        elif isinstance(event, Epoch):
            self.epoch = event
            self.best = event if event.best else self.best
            self.accuracies.append((event.epoch, 100 * event.train.accuracy))
            if event.val is not None:
                self.val_losses.append((event.epoch, event.val.loss))
                self.val_accuracies.append((event.epoch, 100 * event.val.accuracy))
        else:
            self.end = event

    def done(self) -> float:
        """How much of the run is done, 0–1, by the budget of seconds where there is one, else by epochs; 0: unknown."""
        if self.start is None or (self.step is None and self.epoch is None):
            return 0.0
        seconds, epoch = self.now()
        plan = self.start.settings
        total, so_far = (plan.budget, seconds) if plan.budget else (plan.epochs, epoch)
        return min(1.0, so_far / total) if total else 0.0

    def seconds_left(self) -> float | None:
        """About how long the run will still take, if that can be told."""
        done = self.done()
        return self.now()[0] * (1 - done) / done if done else None

    def now(self) -> tuple[float, float]:
        """Seconds and epochs so far."""
        latest = [(one.seconds, float(one.epoch)) for one in (self.step, self.epoch) if one]
        return max(latest, default=(0.0, 0.0))


@contextmanager
def live_view(console: Console | None = None) -> Iterator[Watch]:
    """A watcher for the training loop, which shows what it is told until the block ends.

    console: where to; standard error if left out.
    """
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal or console.encoding.lower() not in ("utf-8", "utf8"):
        yield _plain(console)
        return
    seen, drawn = Seen(), 0.0
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def watch(event: Event) -> None:
            nonlocal drawn
            seen.take(event)
            now = time.monotonic()
            if not isinstance(event, Step) or now - drawn >= _DRAW_EVERY:
                drawn = now
                live.update(screen(seen, console.width), refresh=True)

        yield watch


def _plain(console: Console) -> Watch:
    """A line when the run starts, for each epoch, now and then in a long one, and when it ends."""
    seen, said = Seen(), time.monotonic()

    def watch(event: Event) -> None:
        nonlocal said
        seen.take(event)
        now = time.monotonic()
        if not isinstance(event, Step) or now - said >= _LINE_EVERY:
            said = now
            print(sentence(event, seen), file=console.file, flush=True)

    return watch


def sentence(event: Event, seen: Seen) -> str:
    """An event as a line of text."""
    if isinstance(event, Start):
        validation = f", validated on {event.val:,}" if event.val else ""
        return (
            f"training {event.parameters:,} parameters on {event.train:,} pictures of {event.classes} classes"
            f"{validation}, on {event.device}"
        )
    if isinstance(event, Step):
        return f"{_where(event.epoch, seen)}: loss {event.loss:.4g}{_pace(seen)}"
    if isinstance(event, Epoch):
        val = event.val
        validation = f"; validation {val.loss:.4g}, {100 * val.accuracy:.1f} %" if val else ""
        best = ", the best so far" if event.best else ""
        train = f"loss {event.train.loss:.4g}, right on {100 * event.train.accuracy:.1f} %"
        return f"{_where(event.epoch, seen)}: {train}{validation}{best}{_pace(seen)}"
    best = f"; best in epoch {event.best_epoch}" if event.best_epoch else ""
    return f"training ended ({event.why}) after {clock(event.seconds)}{best}"


def _where(epoch: float, seen: Seen) -> str:
    plan = seen.start.settings if seen.start else None
    of = f"/{plan.epochs}" if plan and plan.epochs and not plan.budget else ""
    return f"epoch {epoch:.4g}{of}"


def _pace(seen: Seen) -> str:
    step, left = seen.step, seen.seconds_left()
    parts = []
    if step is not None:
        parts += [f"rate {step.rate:.3g}", f"{step.pictures_per_second:,.0f} pictures/s"]
    if left and seen.end is None:
        parts.append(f"{clock(left)} left")
    return "".join(f"; {part}" for part in parts)


def clock(seconds: float) -> str:
    """Seconds as `48 s`, `1:05` or `2:00:07`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, last = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{last:02}" if hours else f"{minutes}:{last:02}"


def screen(seen: Seen, width: int) -> Group:
    """The picture of a run so far, for a terminal of `width` characters: curves, progress, and the best epoch."""
    width = min(width - 1, _WIDEST)
    plots = [
        plot("loss", _smoothed(seen.losses), seen.val_losses, width // 2 - 1, _until(seen)),
        plot("accuracy, %", seen.accuracies, seen.val_accuracies, width // 2 - 1, _until(seen)),
    ]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*(Text("\n").join(lines) for lines in plots))
    last = seen.end or seen.epoch
    at = seen.now()[1]
    progress = Text(f"{_where(round(at, 2), seen)}{_pace(seen)}", no_wrap=True, overflow="ellipsis")
    key = Text.assemble(("━ training", TRAIN), "  ", ("╍ validation", VAL))
    bar = Table.grid()  # a bar alone would not end its line
    bar.add_row(ProgressBar(total=1, completed=seen.done(), width=width))
    rows: list[RenderableType] = [table, bar, progress, key]
    if seen.best is not None and seen.best.val is not None:
        rows.append(Text(f"best so far: {100 * seen.best.val.accuracy:.2f} % of validation in epoch {seen.best.epoch}"))
    if isinstance(last, End):
        rows.append(Text(sentence(last, seen)))
    return Group(*rows)


def _until(seen: Seen) -> float:
    """The epoch at the right edge of the plots: the last that is planned, or with a budget the last so far."""
    plan = seen.start.settings if seen.start else None
    return float(plan.epochs) if plan and plan.epochs and not plan.budget else max(seen.now()[1], 1e-9)


def _smoothed(points: Points) -> list[tuple[float, float]]:
    """Each point's mean with those before it, as far as `_SMOOTHING` says; values that are not finite are left out."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    width = max(1, len(finite) // _SMOOTHING)
    return [
        (x, sum(y for _, y in finite[max(0, i + 1 - width) : i + 1]) / min(i + 1, width))
        for i, (x, _) in enumerate(finite)
    ]


def plot(title: str, train: Points, val: Points, width: int, until: float) -> list[Text]:
    """Two curves over 0 … `until` as lines of braille, `width` characters wide, below a title.

    train: a line; val: a dashed one over it, in its own colour. Loss-like values over a decade are drawn by logarithm.
    """
    train, val = ([(x, y) for x, y in points if math.isfinite(y)] for points in (train, val))
    values = [y for _, y in (*train, *val)]
    lines = [Text(title.rjust(_LABEL + 1 + len(title)), style="bold")]
    if not values:
        return lines + [Text(" " * width)] * _ROWS
    low, high = min(values), max(values)
    by_log = 0 < 10 * low < high and title == "loss"
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    for points, style, dashed in ((train, TRAIN, False), (val, VAL, True)):
        for x, y in _dots(points, (low, high), (width - _LABEL) * 2, until, by_log=by_log):
            if not dashed or x // 2 % 2 == 0:
                dots, _ = cells.get((x // 2, y // 4), (0, style))
                cells[x // 2, y // 4] = (dots | _BRAILLE[y % 4][x % 2], style)
    for row in range(_ROWS):
        label = f"{high:.4g}" if row == 0 else f"{low:.4g}" if row == _ROWS - 1 else ""
        line = Text.assemble((f"{label:>{_LABEL - 1}} ", "dim"))
        for column in range(width - _LABEL):
            dots, style = cells.get((column, row), (0, ""))
            line.append(chr(0x2800 + dots), style=style or None)
        lines.append(line)
    return lines


def _dots(
    points: Points, span: tuple[float, float], width: int, until: float, *, by_log: bool
) -> Iterator[tuple[int, int]]:
    """The dots (column, row from the top) of a line through points: joined, in a field of `width` by 4·rows."""
    scale = math.log if by_log else float
    low, high = scale(span[0]), scale(span[1])
    last_row = 4 * _ROWS - 1
    before: tuple[int, int] | None = None
    for x, y in points:
        column = min(width - 1, max(0, int(x / until * width)))
        row = round(last_row * (high - scale(y)) / (high - low)) if high > low else last_row // 2
        start = before or (column, row)
        length = max(abs(column - start[0]), abs(row - start[1]), 1)
        for i in range(length + 1):
            yield (
                start[0] + round((column - start[0]) * i / length),
                start[1] + round((row - start[1]) * i / length),
            )
        before = (column, row)
