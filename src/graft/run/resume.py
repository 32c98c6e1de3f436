"""What a run that trains keeps beside its output until it is done, and how it goes on with it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from graft.errors import UsageError, shown
from graft.run.prepare import Dataset

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


def same_pictures(state: Path, dataset: Dataset, what: str, *, resume: bool) -> None:
    """Note what the run learns from; raises UsageError when a resumed run had something else.

    what: stands for the network and how pictures become its input.
    """
    digest = hashlib.sha256(what.encode())
    for part in ("train", "val"):
        which = dataset.indices(part)
        digest.update(b"".join(dataset.features.keys[i] for i in which) + dataset.labels[which].tobytes())
    note = state / PICTURES
    if not resume:
        note.write_text(digest.hexdigest())
    elif note.read_text() != digest.hexdigest():
        raise UsageError("the stopped run had other pictures or another network; begin anew with --force")
