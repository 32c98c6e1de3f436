"""A run's output: one folder that is whole or not there, and that two runs cannot write at once."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from graft.disk.files import PARTIAL, whole_folder
from graft.disk.lock import locked
from graft.errors import GraftError, UsageError, shown


@contextlib.contextmanager
def new_folder(out: Path, *, source: Path, force: bool, mark: str) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when the block ends well and vanishes when it does not.

    source: what is read; `out` may not lie inside it. force: replace `out`, if a run of graft made it, which is known
    by its file `mark`.
    Raises UsageError when `out` exists, lies in the input or is being written by another run; GraftError when the disk
    is full or read-only.
    """
    target, origin = out.absolute(), source.absolute()
    if origin.is_dir() and (target == origin or origin.resolve() in target.resolve().parents):
        raise UsageError(f"--out {shown(out)} lies inside the pictures' own folder; choose a folder beside it")
    _refuse_to_replace(target, out, force=force, mark=mark)
    taken = f"another run is writing {shown(out)}; wait for it, or choose another --out"
    lock = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, taken=taken):
            try:
                _refuse_to_replace(target, out, force=force, mark=mark)  # another run may have finished since
                _remove_what_killed_runs_left(target)
                with whole_folder(target) as partial:
                    yield partial
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise GraftError(
            f"{shown(out)} cannot be written: {error.strerror or error}; free some space or choose another --out"
        ) from error


def _refuse_to_replace(target: Path, out: Path, *, force: bool, mark: str) -> None:
    """Raises UsageError for an output that exists, unless it is empty or a model and `force` is given."""
    if target.exists() and not force:
        raise UsageError(f"{shown(out)} exists already; choose another --out, or --force to replace it")
    if target.exists() and not (target / mark).is_file() and not _is_empty_folder(target):
        raise UsageError(f"--force replaces only what graft made, and {shown(out)} is no model; choose another --out")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _remove_what_killed_runs_left(target: Path) -> None:
    """The folders beside `target` that nobody writes any more: whoever calls this holds the lock."""
    for path in target.parent.glob(f".{target.name}.*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)
