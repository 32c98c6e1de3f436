"""Unpacking a zip of labelled pictures into a folder to scan, or refusing it and leaving nothing behind.

Only pictures and CSV files, by their names, come out; hidden and system files do not. Whoever sent the archive may be
hostile: its directory is counted before it is parsed, every member is judged before the first is written, and what is
written is counted again.
Source: PKWARE APPNOTE 6.3.10, §4.3.12 and §4.3.14–16 (the central directory and its end records).
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO, Final, NamedTuple

from graft.data.decode import MAX_FILE_BYTES, SUFFIXES
from graft.data.sources.walk import is_hidden
from graft.errors import BadFolder, shown

_END: Final = struct.Struct("<4s4H2IH")  # end of central directory
_END64_LOCATOR: Final = struct.Struct("<4sIQI")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LONGEST_COMMENT: Final = 2**16 - 1
_ENTRY_SIGNATURE: Final = b"PK\1\2"
_ENCRYPTED: Final = 0x1
_COPY_BYTES: Final = 2**20

_BAD_ZIP: Final = (
    zipfile.BadZipFile,
    NotImplementedError,  # a compression method that Python lacks
    EOFError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
    LZMAError,
)


@dataclass(frozen=True, slots=True)
class Quota:
    """What an archive may take. entries: members, and bytes: unpacked, both over the whole archive.

    ratio: unpacked bytes over the archive's own, asked only of archives that unpack to more than `ratio_from` bytes.
    """

    entries: int = 500_000
    bytes: int = 64 * 2**30
    file_bytes: int = MAX_FILE_BYTES
    ratio: float = 100.0
    ratio_from: int = 256 * 2**20
    directory_bytes: int = 256 * 2**20


class _Member(NamedTuple):
    info: zipfile.ZipInfo
    parts: tuple[str, ...]


def unpack(archive: Path, into: Path, *, quota: Quota | None = None) -> Path:
    """Unpack a zip's pictures and CSV files, and return the folder to scan.

    into: a folder that does not exist yet, or is empty; its parent exists. The folder returned is `into`, or the one
    that holds the classes where the archive wraps everything in a single folder.
    Raises BadFolder, leaving nothing behind, for what is no sound zip, for members that are encrypted, links or
    devices, lead out of the folder or clash, and for archives over the quota (`Quota()` unless given).
    """
    quota = quota or Quota()
    _refuse_place(archive, into)
    try:
        refuse_many_entries(archive, quota)
        with zipfile.ZipFile(archive) as opened:
            members = _checked(archive, opened.infolist(), quota)
            _refuse_full_disk(archive, into, sum(member.info.file_size for member in members))
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=into.parent) as staging:
                content = Path(staging) / "content"
                content.mkdir()
                _extract(archive, opened, members, content, quota)
                if into.exists():
                    into.rmdir()
                content.rename(into)
    except _BAD_ZIP as error:
        raise BadFolder(
            f"{shown(archive)}: expected a sound zip, found a damaged one ({shown(error)}); zip it again"
        ) from error
    except OSError as error:
        raise BadFolder(
            f"{shown(archive)}: expected to unpack it into {shown(into)}, found {shown(error.strerror or error)}; "
            "check space, permissions and name lengths"
        ) from error
    return _without_wrapping(into)


def _refuse_place(archive: Path, into: Path) -> None:
    if not archive.is_file():
        raise BadFolder(f"{shown(archive)}: expected a zip archive, found no regular file; check the path")
    if not into.parent.is_dir():
        raise BadFolder(
            f"{shown(into)}: expected a folder to unpack into, found no {shown(into.parent)}; create that first"
        )
    if os.path.lexists(into) and (into.is_symlink() or not into.is_dir() or any(into.iterdir())):
        raise BadFolder(
            f"{shown(into)}: expected a new or empty folder to unpack into, found something there; name another"
        )


def refuse_many_entries(archive: Path, quota: Quota) -> None:
    """Counts the entries by their signatures in the raw directory: an object for each of a million takes gigabytes."""
    with archive.open("rb") as file:
        start, size = _central_directory(file)
        if size > quota.directory_bytes:
            raise BadFolder(
                f"{shown(archive)}: expected a directory of at most {quota.directory_bytes:,} bytes, found {size:,}; "
                "split the archive"
            )
        file.seek(start)
        count = file.read(size).count(_ENTRY_SIGNATURE)
    if count > quota.entries:
        raise BadFolder(
            f"{shown(archive)}: expected at most {quota.entries:,} files, found {count:,}; split the archive"
        )


def _central_directory(file: IO[bytes]) -> tuple[int, int]:
    """(start, size) in bytes of what `zipfile` will parse: the directory ends where its end records begin."""
    length = file.seek(0, os.SEEK_END)
    tail_start = max(0, length - _END.size - _LONGEST_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    without_comment = len(tail) - _END.size
    is_plain = without_comment >= 0 and tail[without_comment:].startswith(b"PK\5\6") and tail.endswith(b"\0\0")
    at = without_comment if is_plain else tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise zipfile.BadZipFile("it has no central directory")
    size, end = _END.unpack_from(tail, at)[5], tail_start + at
    if end >= _END64_LOCATOR.size + _END64.size:
        file.seek(end - _END64_LOCATOR.size - _END64.size)
        record = file.read(_END64.size)
        if record.startswith(b"PK\6\6") and file.read(_END64_LOCATOR.size).startswith(b"PK\6\7"):
            size, end = _END64.unpack(record)[8], end - _END64_LOCATOR.size - _END64.size
    if size > end:
        raise zipfile.BadZipFile("its central directory is longer than the file")
    return end - size, size


def _checked(archive: Path, infos: list[zipfile.ZipInfo], quota: Quota) -> list[_Member]:
    """The members to write, once all members have been judged by what the directory declares."""
    declared = sum(info.file_size for info in infos)
    if declared > quota.bytes:
        raise BadFolder(
            f"{shown(archive)}: expected at most {quota.bytes:,} bytes, found {declared:,} inside; split it"
        )
    if declared > quota.ratio_from and declared > quota.ratio * archive.stat().st_size:
        raise BadFolder(
            f"{shown(archive)}: expected at most {quota.ratio:g} times its own size inside, found {declared:,} bytes; "
            "such an archive is a decompression bomb: do not open it"
        )
    members = [_Member(info, _parts(archive, info)) for info in infos]
    for info in infos:
        _refuse_kind(archive, info)
    wanted = [member for member in members if _is_wanted(member)]
    _refuse_clashes(archive, wanted)
    for info, _ in wanted:
        if info.file_size > quota.file_bytes:
            raise BadFolder(
                f"{shown(archive)}: expected files of at most {quota.file_bytes:,} bytes, found {info.file_size:,} in "
                f"{shown(info.filename)}; export a smaller version"
            )
    return wanted


def _parts(archive: Path, info: zipfile.ZipInfo) -> tuple[str, ...]:
    """A member's path, part by part; archives from Windows may separate them by backslashes."""
    name = info.filename.replace("\\", "/")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or (parts and parts[0][1:2] == ":"):
        raise BadFolder(
            f"{shown(archive)}: expected paths that stay in the folder, found {shown(info.filename)}; "
            "do not open this archive"
        )
    return parts


def _refuse_kind(archive: Path, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)  # the Unix mode, or 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "a device or FIFO"
        raise BadFolder(
            f"{shown(archive)}: expected regular files, found {what}, {shown(info.filename)}; zip without it"
        )
    if info.flag_bits & _ENCRYPTED:
        raise BadFolder(
            f"{shown(archive)}: expected an open archive, found {shown(info.filename)} encrypted; "
            "zip it without a password"
        )


def _is_wanted(member: _Member) -> bool:
    """Folders, so that an empty class shows; pictures and CSV files, by their names."""
    if not member.parts or any(is_hidden(part) for part in member.parts):
        return False
    suffix = os.path.splitext(member.parts[-1])[1].lower()
    return _is_folder(member) or suffix in SUFFIXES or suffix == ".csv"


def _is_folder(member: _Member) -> bool:
    return member.info.filename.endswith(("/", "\\"))


def _refuse_clashes(archive: Path, members: list[_Member]) -> None:
    """Two names for one place: equal but for case or the way accents are written, listed twice, or file and folder."""
    spelling: dict[tuple[str, ...], tuple[str, ...]] = {}
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for member in members:
        keys = tuple(unicodedata.normalize("NFC", part).casefold() for part in member.parts)
        for depth in range(1, len(keys) + 1):
            other = spelling.setdefault(keys[:depth], member.parts[:depth])
            if other != member.parts[:depth]:
                raise BadFolder(
                    f"{shown(archive)}: expected names that differ in more than case or the way accents are written, "
                    f"found {'/'.join(other)!a} and {'/'.join(member.parts[:depth])!a}; rename one"
                )
        folders.update(keys[:depth] for depth in range(1, len(keys)))
        if _is_folder(member):
            folders.add(keys)
        elif keys in files:
            raise BadFolder(
                f"{shown(archive)}: expected every file once, found {shown(member.info.filename)} twice; zip it again"
            )
        else:
            files.add(keys)
    for keys in files & folders:
        raise BadFolder(
            f"{shown(archive)}: expected a file or a folder, found both under {shown('/'.join(spelling[keys]))}; "
            "rename one"
        )


def _refuse_full_disk(archive: Path, into: Path, needed: int) -> None:
    free = shutil.disk_usage(into.parent).free
    if needed > free:
        raise BadFolder(
            f"{shown(archive)}: expected {needed:,} bytes of space for {shown(into)}, found {free:,} free; make room"
        )


def _extract(archive: Path, opened: zipfile.ZipFile, members: list[_Member], content: Path, quota: Quota) -> None:
    written = 0
    for member in members:
        target = content.joinpath(*member.parts)
        if _is_folder(member):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member.info) as source, target.open("xb") as file:
            for block in _blocks(source):
                written += len(block)
                if written > quota.bytes:
                    raise BadFolder(
                        f"{shown(archive)}: expected at most {quota.bytes:,} bytes, found more than it declares; "
                        "do not open it"
                    )
                file.write(block)


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(_COPY_BYTES):
        yield block


def _without_wrapping(folder: Path) -> Path:
    """The folder below `folder` that holds more than one thing, or folders of nothing but files."""
    while True:
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        inner = list(entries[0].iterdir())
        if not any(path.is_dir() or path.suffix.lower() == ".csv" for path in inner):
            return folder  # the only folder is a class, not a wrapping
        folder = entries[0]
