"""`graft playground`: draw what training does, on small problems of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from graft.errors import GraftError, UsageError, shown
from graft.progress import Progress, silent


def run(folder: Path, *, force: bool = False, progress: Progress = silent) -> Path:
    """Write the pictures and the page that shows them into `folder`, and return the page.

    force: replace earlier ones; nothing else in the folder is touched.
    Raises UsageError when one of the files exists already, GraftError when they cannot be written.
    """
    from graft.lessons.playground import gallery
    from graft.pages.playground import playground_page

    if not force:
        _refuse_existing(folder, gallery.names())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".playground-", dir=folder) as staging:
            drawn = gallery.pictures(progress)
            contents = {one.file: one.png for one in drawn} | {gallery.INDEX: playground_page(drawn).encode()}
            for name, content in contents.items():
                (Path(staging) / name).write_bytes(content)
            for name in contents:
                os.replace(Path(staging) / name, folder / name)
    except OSError as error:
        raise GraftError(
            f"{shown(folder)} cannot be written: {error.strerror or error}; free some space or choose another folder"
        ) from error
    return folder / gallery.INDEX


def _refuse_existing(folder: Path, names: tuple[str, ...]) -> None:
    there = [name for name in names if os.path.lexists(folder / name)]
    if there:
        raise UsageError(
            f"{shown(folder)} holds {there[0]} already; choose another folder for --save, or --force to replace it"
        )


__all__ = ["run"]
