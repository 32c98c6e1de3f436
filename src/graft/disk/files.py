"""Files and folders that are whole or not there: written beside their place, flushed to the disk, and moved into it."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from graft.errors import GraftError, shown

PARTIAL: Final = ".tmp"
"""How the names end of what is being written; what a killed run left of it may go."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well; else all is as it was.

    Several processes may write the same file: the last one stays. Raises OSError for a full or read-only disk, for the
    caller to say what to do.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, which takes its place when the block ends well; else nothing is left of it.

    What stood there is removed only once the new one is in place. Raises OSError as `whole_file`.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        _replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file of a folder that is not in its place yet; it is on the disk when this returns."""
    path.write_bytes(data)
    flush(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that the user named, and the folders above it. Raises GraftError where it cannot be written."""
    try:
        with whole_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise GraftError(f"cannot write {shown(path)}: {error.strerror or error}; choose another file") from error


def flush(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to the disk; a folder only where that can be asked."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(partial: Path, path: Path) -> None:
    """Move a folder to where another one may stand."""
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old{PARTIAL}")
    if path.exists():
        path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
