"""Reading a CSV file that lists pictures and their labels, a row each."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from csv import DictReader
from csv import Error as CsvError
from pathlib import Path
from typing import Final, NamedTuple

from graft.data.sources.walk import Problem, is_inside
from graft.errors import BadFolder, shown

PATH_COLUMNS: Final = ("path", "file", "filename", "image", "file_name", "filepath", "file_path", "image_path")
LABEL_COLUMNS: Final = ("label", "class", "category")
SPLIT_COLUMNS: Final = ("split", "set")
SPLIT_NAMES: Final = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Row(NamedTuple):
    """One usable row. path: absolute. split: "train", "val", "test" or None. line: its last in the file, from 1."""

    path: str
    label: str
    split: str | None
    line: int


def read_manifest(csv: Path, *, homes: Sequence[str], follow_links: bool) -> tuple[list[Row], list[Problem]]:
    """The usable rows of a CSV file in its order, and a problem for every other row.

    csv: UTF-8, with a header that names a path column, a label column and perhaps a split column; separated by comma,
    semicolon or tab. homes: absolute folders that paths may be relative to, tried in order; unless links are followed,
    no path may lead out of them. A path listed twice counts once, and not at all when its labels or splits disagree.
    Raises BadFolder when the file cannot be read as such a table.
    """
    rows: dict[str, Row] = {}
    problems: list[Problem] = []
    contradicted: dict[str, int] = {}
    locate = _Locator(homes, follow_links)
    for line, cells in _cells(csv):
        try:
            row = _row(cells, line, locate)
        except _UnusableRowError as reason:
            problems.append(Problem(os.path.abspath(csv), f"line {line}: {reason}"))
            continue
        first = rows.setdefault(row.path, row)
        if first is row:
            continue
        if (first.label, first.split) == (row.label, row.split):
            problems.append(Problem(row.path, f"line {line} repeats line {first.line}; kept once"))
        elif row.path not in contradicted:
            contradicted[row.path] = line
    for path, line in contradicted.items():
        first = rows.pop(path)
        problems.append(Problem(path, f"lines {first.line} and {line} give it different labels or splits"))
    return list(rows.values()), problems


class _Cells(NamedTuple):
    path: str
    label: str
    split: str
    is_whole: bool  # as many cells as the header


class _UnusableRowError(Exception):
    """Why a row is set aside."""


class _Locator:
    """Turns path cells into absolute paths."""

    def __init__(self, homes: Sequence[str], follow_links: bool) -> None:
        self.homes = homes
        self.real_homes = None if follow_links else tuple(os.path.realpath(home) for home in homes)
        self.real_folders: dict[str, str] = {}  # resolving one costs a system call for every part of it

    def path(self, cell: str) -> str:
        """The absolute path that a cell means. Raises _UnusableRowError when no regular file of the folder is there."""
        for home in self.homes:
            path = os.path.normpath(os.path.join(home, cell))
            try:
                status = os.stat(path)
            except (OSError, ValueError):  # ValueError: a NUL in the path
                continue
            if not stat.S_ISREG(status.st_mode):
                raise _UnusableRowError(f"{shown(cell)} is not a regular file")
            real_homes = self.real_homes
            if real_homes is not None and not any(is_inside(self._real(path), home) for home in real_homes):
                raise _UnusableRowError(f"{shown(cell)} leads out of the folder")
            return path
        raise _UnusableRowError(f"no file {shown(cell)}")

    def _real(self, path: str) -> str:
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self.real_folders:
            self.real_folders[folder] = os.path.realpath(folder)
        return os.path.join(self.real_folders[folder], name)


def _row(cells: _Cells, line: int, locate: _Locator) -> Row:
    if not cells.is_whole:
        raise _UnusableRowError("not as many cells as the header")
    if not cells.path or not cells.label:
        raise _UnusableRowError("no path" if not cells.path else f"no label for {shown(cells.path)}")
    split = SPLIT_NAMES.get(cells.split.lower())
    if cells.split and split is None:
        raise _UnusableRowError(f"split {shown(cells.split)} is none of train, val and test")
    return Row(locate.path(cells.path), cells.label, split, line)


def _cells(csv: Path) -> Iterator[tuple[int, _Cells]]:
    """(line number, cells) of every row."""
    if not csv.is_file():
        raise BadFolder(f"{shown(csv)}: expected a CSV file, found no regular file; check the path")
    try:
        # Names that are not UTF-8 survive, as they do in a listing of the folder.
        with csv.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)
            reader = DictReader(file, delimiter=delimiter, strict=True)
            path, label, split = _columns(csv, reader.fieldnames or ())
            for cells in reader:
                is_whole = None not in cells and None not in cells.values()
                label_cell, split_cell = cells[label] or "", (cells[split] or "") if split else ""
                yield reader.line_num, _Cells(cells[path] or "", label_cell.strip(), split_cell.strip(), is_whole)
    except (OSError, CsvError) as error:
        raise BadFolder(
            f"{shown(csv)}: expected a CSV file, found a damaged one ({shown(error)}); save it again"
        ) from error


def _columns(csv: Path, names: Sequence[str]) -> tuple[str, str, str | None]:
    """The header's own names of the path, label and split columns."""
    own = {name.strip().lower(): name for name in reversed(names)}
    path, label, split = (
        next((own[known] for known in columns if known in own), None)
        for columns in (PATH_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    if path is None or label is None:
        raise BadFolder(
            f"{shown(csv)}: expected a header with a path column ({', '.join(PATH_COLUMNS[:4])}) and a label column "
            f"({', '.join(LABEL_COLUMNS)}), found {', '.join(map(shown, names)) or 'none'}; "
            "name the columns in the first line"
        )
    return path, label, split
