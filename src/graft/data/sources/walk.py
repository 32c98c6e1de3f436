"""Walking folders of pictures by their listings alone: sorted, without a loop, and without opening a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from graft.data.decode import SUFFIXES

# What desktops, cameras, NAS boxes and archivers leave behind; names that begin with a dot are hidden anyway.
_SYSTEM_NAMES: Final = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "$recycle.bin", "__macosx"),
        *("system volume information", "lost+found", "__pycache__"),
    )
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that was set aside, and why."""

    path: str
    reason: str


class Listing(NamedTuple):
    """One folder's pictures (by their names), folders and problems, each a list of whole paths in sorted order."""

    pictures: list[str]
    folders: list[str]
    problems: list[Problem]


def is_hidden(name: str) -> bool:
    """Whether a file or folder name is hidden or a system's own: never a class, never a sample, never reported."""
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def is_inside(path: str, home: str) -> bool:
    """Whether a real path is `home`, a real path too, or lies below it."""
    return path == home or path.startswith(os.path.join(home, ""))


def listing(folder: str, *, home: str | None) -> Listing:
    """What stands directly in a folder.

    home: the real path that links must not leave, and then links to folders are not followed at all; None follows every
    link. Raises OSError when the folder itself cannot be listed.
    """
    found = Listing([], [], [])
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=attrgetter("name"))
    for entry in ordered:
        if is_hidden(entry.name):
            continue
        try:
            if entry.is_dir() and (home is None or not entry.is_symlink()):
                found.folders.append(entry.path)
            elif reason := _unfit(entry, home):
                found.problems.append(Problem(entry.path, reason))
            else:
                found.pictures.append(entry.path)
        except OSError as error:
            found.problems.append(Problem(entry.path, f"cannot be read ({error.strerror})"))
    return found


def walk(folder: str, *, home: str | None, above: tuple[str, ...] = ()) -> Iterator[Listing]:
    """The listing of a folder and of every folder below it, each before its own folders, one held at a time.

    home: as for `listing`. above: folders that the walk has come through; a link back to one of them is a loop.
    A folder that cannot be listed, or that closes a loop, comes as a listing of one problem.
    """
    waiting = [(folder, frozenset(_identity(os.stat(path)) for path in above))]
    while waiting:
        here, ancestors = waiting.pop()
        try:
            identity = _identity(os.stat(here))
            if identity in ancestors:
                yield Listing([], [], [Problem(here, "a link back to a folder above it")])
                continue
            found = listing(here, home=home)
        except OSError as error:
            yield Listing([], [], [Problem(here, f"cannot be listed ({error.strerror})")])
            continue
        yield found
        waiting.extend((path, ancestors | {identity}) for path in reversed(found.folders))


def _unfit(entry: os.DirEntry[str], home: str | None) -> str | None:
    """Why something that is no folder to enter cannot be a picture, judged without opening it; None when it can."""
    if entry.is_dir():
        return "a link to a folder, and links are not followed"
    if not entry.is_file():
        return "a link to nothing" if entry.is_symlink() else "not a regular file (a FIFO, socket or device)"
    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
        return "not a picture by its name"
    if home is not None and entry.is_symlink() and not is_inside(os.path.realpath(entry.path), home):
        return "a link that leads out of the folder, and links are not followed"
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
