"""Locks between processes, on every system; the system frees one when its process ends, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from graft.errors import UsageError


@contextlib.contextmanager
def locked(path: Path, *, taken: str) -> Iterator[None]:
    """Hold the lock `path`, a file that is made if need be. taken: what to say where another process holds it.

    Raises UsageError with that line, at once.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(taken) from None
    try:
        yield
    finally:
        lock.release()
