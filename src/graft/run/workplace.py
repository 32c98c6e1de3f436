"""Where a run works: the cache, the device, the folder of its state, and who watches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from graft.disk.cache import cache_folder
from graft.disk.table import Store
from graft.progress import Progress, silent
from graft.runtime.device import Device, choose_device
from graft.training.loop.history import Epoch, Event, Start
from graft.training.recipe.settings import Recipe

Watch = Callable[[Event], None]
"""Called with every line of the history as the run writes it."""


class Clock:
    """Wall-clock seconds by step, in the order the steps ran."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the block's time to the step `name`."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._started


@dataclass(frozen=True, eq=False)
class Workplace:
    """Where a run works.

    cache: the folder of what is computed once. state: the folder that a stopped run goes on from, which exists while
    weights are trained. resume: whether it is to go on from there. watch: is shown the history, line by line.
    """

    cache: Path
    device: Device
    state: Path
    resume: bool
    progress: Progress
    watch: Watch
    clock: Clock = field(default_factory=Clock)

    @property
    def store(self) -> Store:
        """The store of features, maps and pixels."""
        return Store(self.cache / "features")


def workplace_of(recipe: Recipe, out: Path, *, progress: Progress = silent, watch: Watch | None = None) -> Workplace:
    """Where a run of `recipe` works whose output is `out`. watch: progress shows the epochs where it is None.

    Raises UsageError for a device that there is not.
    """
    return Workplace(
        cache_folder(recipe.cache), choose_device(recipe.device), out.absolute().with_name(f"{out.name}.training"),
        recipe.resume, progress, watch or _epochs_as_progress(progress),
    )  # fmt: skip


def _epochs_as_progress(progress: Progress) -> Watch:
    """The history as one line of progress, for whoever shows no curves."""
    epochs = 0

    def watch(event: Event) -> None:
        nonlocal epochs
        if isinstance(event, Start):
            epochs = event.settings.epochs or 0
        elif isinstance(event, Epoch):
            progress("training, in epochs", event.epoch, epochs)

    return watch
