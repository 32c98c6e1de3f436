"""What a run that trains keeps beside its output until it is done, and how it goes on with it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from graft.data.split import assign_folds
from graft.errors import UsageError, shown
from graft.progress import Progress
from graft.run.learnt import Gathered, with_validation
from graft.training.loop.history import Epoch, Event, Start

Watch = Callable[[Event], None]
"""Called with every line of the history as the run writes it."""

VALIDATION_PARTS: Final = 10  # one in so many training pictures is kept back, where no split came with them
PICTURES: Final = "pictures.sha256"
"""The file that says what the run learns from; written before the first step."""


@contextlib.contextmanager
def run_state(state: Path, out: Path, *, resume: bool, force: bool) -> Iterator[None]:
    """The folder of the run's state, new or that of the run to go on with; kept when the block fails after it began.

    Raises UsageError when there is none to resume, or one that would be lost.
    """
    if resume and not (state / PICTURES).is_file():
        raise UsageError(f"there is no stopped run to resume at {shown(state)}; leave --resume out to begin one")
    if not resume and state.exists():
        if not force and any(state.rglob("checkpoint-*")):
            raise UsageError(
                f"a run for {shown(out)} was stopped before its end; go on with --resume, or begin anew with --force"
            )
        shutil.rmtree(state)
    state.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not any(state.rglob("checkpoint-*")):
            shutil.rmtree(state, ignore_errors=True)


def same_pictures(state: Path, gathered: Gathered, what: str, *, resume: bool) -> None:
    """Note what the run learns from; raises UsageError when a resumed run had something else.

    what: stands for the network and how pictures become its input.
    """
    digest = hashlib.sha256(what.encode())
    for part in ("train", "val"):
        which = gathered.indices(part)
        digest.update(b"".join(gathered.features.keys[i] for i in which) + gathered.labels[which].tobytes())
    note = state / PICTURES
    if not resume:
        note.write_text(digest.hexdigest())
    elif note.read_text() != digest.hexdigest():
        raise UsageError("the stopped run had other pictures or another network; begin anew with --force")


def with_validation_of(gathered: Gathered, seed: int, parts: int = VALIDATION_PARTS) -> Gathered:
    """The same with a validation part: the one that came with the pictures, else some of the training pictures."""
    in_train = gathered.indices("train")
    if len(gathered.indices("val")):
        return gathered
    fold = assign_folds(
        gathered.labels[in_train], gathered.groups[in_train], gathered.features.key_array()[in_train],
        folds=parts, seed=seed,
    )  # fmt: skip
    held_out = np.zeros(len(gathered.labels), np.bool_)
    held_out[in_train[fold == 0]] = True
    return with_validation(gathered, held_out)


def told(progress: Progress) -> Watch:
    """The history as one line of progress, for whoever shows no curves."""
    epochs = 0

    def watch(event: Event) -> None:
        nonlocal epochs
        if isinstance(event, Start):
            epochs = event.settings.epochs or 0
        elif isinstance(event, Epoch):
            progress("training, in epochs", event.epoch, epochs)

    return watch
