"""What the commands print: progress while they work, one line when they cannot."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from graft.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

_LINE_EVERY = 10.0  # seconds between plain lines where there is no terminal


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress on standard error: a bar with the time left on a terminal, now and then a plain line elsewhere."""
    if not sys.stderr.isatty():
        yield _plain_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield show


def _plain_lines() -> Progress:
    """A line when something starts, every ten seconds while it lasts, and when it ends."""
    started: dict[str, float] = {}
    said: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        first = what not in started
        started.setdefault(what, now)
        if first or done == total or now - said[what] >= _LINE_EVERY:
            said[what] = now
            left = (now - started[what]) / done * (total - done) if done and total else 0
            note = f", about {left:.0f} s left" if left >= 1 else ""
            print(f"{what}: {done}/{total}{note}" if total > 1 else what, file=sys.stderr, flush=True)

    return show
