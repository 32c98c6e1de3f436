"""The content-keyed store: rows of numbers, each under the digest of what it was computed from.

A table is a folder of segments; a segment is one file of two arrays in NumPy's format, keys and then rows, so that a
table is opened without touching its rows, which are memory-mapped to read. It is written under another name, flushed to
the disk and renamed, so that it is whole or not there: any number of runs may share a store, and any of them may be
killed. Segments that have gone unread longest are removed when the store outgrows its bound; a run that has one open
keeps reading it.
"""

from __future__ import annotations

import mmap
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from graft.disk.cache import unwritable
from graft.disk.files import PARTIAL, whole_file
from graft.errors import GraftError, shown

KEY_BYTES: Final = 16
_SEGMENT: Final = 2**32
_STALE_SECONDS: Final = 3600.0  # a temporary file this old belongs to a run that was killed
_DEFAULT_LIMIT: Final = 20 * 1024**3
_SPARE: Final = 256 * 1024**2  # bytes of the disk that are left to others


@dataclass(frozen=True)
class _Segment:
    """One mapped file and the rows in it, (n, *row shape)."""

    rows: NDArray[np.generic]
    mapped: mmap.mmap


@dataclass(frozen=True)
class Store:
    """A folder of tables, bounded in bytes."""

    folder: Path
    limit: int = _DEFAULT_LIMIT

    def table(self, name: str, row: np.dtype[np.generic]) -> Table:
        """Open the table `name`, whose rows have the dtype `row` (such as `np.dtype(("<f2", (1280,)))`)."""
        return Table(self.folder / name, row)

    def make_room(self, size: int, *, what: str) -> None:
        """Remove the segments read longest ago until `size` bytes more fit the store's bound.

        what: is to be written, for the message. Raises GraftError, having removed nothing, where they are more than the
        store may hold or more than the disk has free.
        """
        if size > self.limit:
            raise GraftError(
                f"{what} take {_gigabytes(size)} on the disk, and the cache may hold {_gigabytes(self.limit)}; "
                "ask for fewer"
            )
        free = _free(self.folder)
        removable = sum(stat.st_size for path in self.folder.glob("*/*.npy") if (stat := _stat(path)))
        excess = max(0, removable + size - self.limit)
        if size + _SPARE > free + excess:
            raise GraftError(
                f"{what} take {_gigabytes(size)} on the disk, and {_gigabytes(max(0, free - _SPARE))} are to be had at "
                f"{shown(self.folder)}; free some space, ask for fewer or give another folder with --cache"
            )
        self.trim(room=size)

    def trim(self, *, room: int = 0) -> int:
        """Remove the segments read longest ago until the store fits its bound less `room` bytes; bytes removed.

        Also removes what killed runs left half-written.
        """
        now = time.time()
        for path in self.folder.glob(f"*/*{PARTIAL}"):
            if (age := _stat(path)) and now - age.st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)
        known = [(stat.st_mtime, stat.st_size, path) for path in self.folder.glob("*/*.npy") if (stat := _stat(path))]
        excess = sum(size for _, size, _ in known) + room - self.limit
        removed = 0
        for _, size, path in sorted(known):
            if removed >= excess:
                break
            path.unlink(missing_ok=True)
            removed += size
        return removed


class Table:
    """Rows of one kind. Safe for several processes; within one, threads may read while one of them appends."""

    def __init__(self, folder: Path, row: np.dtype[np.generic]) -> None:
        self._folder = folder
        self._row = row
        self._segments: list[_Segment] = []
        self._where: dict[bytes, int] = {}  # key → segment · 2³² + position: half the memory of a pair
        for path in sorted(folder.glob("*.npy")):
            self._open(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def locate(self, keys: list[bytes]) -> NDArray[np.int64]:
        """Where rows stand: (len(keys), 2), for `gather`. Raises KeyError for a key that is not there."""
        codes = np.fromiter((self._where[key] for key in keys), np.int64, len(keys))
        return np.stack(np.divmod(codes, _SEGMENT), axis=1)

    def gather(self, places: NDArray[np.int64]) -> NDArray[np.generic]:
        """The rows at `places` (n, 2), in that order: (n, *row shape).

        Pages of the mapped files are given back after each call, so that memory does not grow with the table.
        """
        out = np.empty(len(places), self._row)
        for number in np.unique(places[:, 0]):
            segment = self._segments[number]
            chosen = places[:, 0] == number
            out[chosen] = segment.rows[places[chosen, 1]]
            _give_back(segment.mapped)
        return out

    def append(self, keys: list[bytes], rows: NDArray[np.generic]) -> None:
        """Add rows (len(keys), *row shape); they are on the disk, whole, when this returns.

        Raises GraftError when the disk is full or the folder cannot be written; nothing is left half-written then.
        """
        digests = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
        rows = np.ascontiguousarray(rows, self._row.base).reshape(len(keys), *self._row.shape)
        path = self._folder / f"{uuid.uuid4().hex}.npy"
        try:
            with whole_file(path) as partial, partial.open("wb") as stream:
                np.lib.format.write_array(stream, digests, allow_pickle=False)
                np.lib.format.write_array(stream, rows, allow_pickle=False)
        except OSError as error:
            raise unwritable(self._folder, error) from error
        self._open(path)

    def _open(self, path: Path) -> None:
        """Map one segment; a file that is not a whole segment of this kind is removed."""
        try:
            with path.open("rb") as stream:
                (count, *_), _ = of_keys = _header(stream)
                keys = stream.read(count * KEY_BYTES)
                of_rows = _header(stream)
                start = stream.tell()
                size = start + count * self._row.itemsize
                wanted = ((count, KEY_BYTES), np.dtype("u1")), ((count, *self._row.shape), self._row.base)
                if (of_keys, of_rows) != wanted or os.fstat(stream.fileno()).st_size != size or count == 0:
                    raise ValueError("not a segment of this table")
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            os.utime(path)  # read now: the last to be removed
        except FileNotFoundError:  # another run has just removed it
            return
        except ValueError:
            path.unlink(missing_ok=True)
            return
        number = len(self._segments)
        self._segments.append(_Segment(np.frombuffer(mapped, self._row, count, start), mapped))
        for position in range(count):
            key = keys[position * KEY_BYTES : (position + 1) * KEY_BYTES]
            self._where.setdefault(key, number * _SEGMENT + position)


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype of the array that begins here; ValueError where none does."""
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, dtype


def _give_back(mapped: mmap.mmap) -> None:
    """Let the system take the file's pages out of this process; it reads them again when they are needed."""
    if hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # removed by another run
        return None


def _free(folder: Path) -> int:
    """Bytes that the disk of a folder, which need not exist yet, has free."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
