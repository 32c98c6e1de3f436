"""Open what the user named, be it a folder or a zip, for as long as a job needs it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graft.data.archive import unpack
from graft.data.scan import Collection, scan
from graft.errors import BadFolder, shown


@contextlib.contextmanager
def opened(source: Path, cache: Path, *, csv: Path | None = None, follow_links: bool = False) -> Iterator[Collection]:
    """The collection in a folder or zip; a zip's pictures lie in a temporary folder until the block ends.

    Raises BadFolder, in one line, for whatever cannot be learnt from.
    """
    if source.suffix.lower() != ".zip" or not source.is_file():
        yield scan(source, csv=csv, follow_links=follow_links)
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=cache, ignore_cleanup_errors=True) as folder:
            yield scan(unpack(source, Path(folder) / source.stem), csv=csv)
    except OSError as error:
        raise BadFolder(
            f"{shown(source)} cannot be unpacked into {shown(cache)} ({error.strerror or error}); free some space or "
            "give another --cache"
        ) from error
