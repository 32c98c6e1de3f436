"""Open what the user named, be it a folder, a zip or a file of arrays, for as long as a job needs it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graft.data.sources.archive import unpack
from graft.data.sources.arrays import is_arrays, unpack_arrays
from graft.data.sources.scan import Collection, scan
from graft.errors import BadFolder, UsageError, shown
from graft.progress import Progress, silent


@contextlib.contextmanager
def opened(
    source: Path, cache: Path, *, csv: Path | None = None, follow_links: bool = False, progress: Progress = silent
) -> Iterator[Collection]:
    """The collection in a folder, a zip, a `.npz` file or a folder of IDX files.

    A zip's pictures lie in a temporary folder of the cache until the block ends; those of arrays, which have no files
    of their own to point at, stay there for the next run. Raises BadFolder, in one line, for whatever cannot be learnt
    from, UsageError for a CSV file beside arrays.
    """
    if is_arrays(source):
        if csv is not None:
            raise UsageError(f"--csv lists picture files, and {shown(source)} holds arrays with labels of their own")
        yield scan(_unpacked(source, cache, progress))
        return
    if source.suffix.lower() != ".zip" or not source.is_file():
        yield scan(source, csv=csv, follow_links=follow_links)
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=cache, ignore_cleanup_errors=True) as folder:
            yield scan(unpack(source, Path(folder) / source.stem), csv=csv)
    except OSError as error:
        raise BadFolder(_no_room(source, cache, error)) from error


def _unpacked(source: Path, cache: Path, progress: Progress) -> Path:
    try:
        return unpack_arrays(source, cache, progress=progress)
    except OSError as error:
        raise BadFolder(_no_room(source, cache, error)) from error


def _no_room(source: Path, cache: Path, error: OSError) -> str:
    return (
        f"{shown(source)} cannot be unpacked into {shown(cache)} ({error.strerror or error}); free some space or "
        "give another --cache"
    )
