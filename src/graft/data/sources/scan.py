"""What stands in a folder of labelled pictures: classes, samples, ready splits, and what was set aside.

Three layouts are told apart by looking:
  class folders   root/cat/…, root/dog/…; folders inside a class folder count for that class
  ready splits    root/train/cat/…, root/val/cat/…, root/test/cat/…: `train` and at least one more
  a CSV file      a path and a label in every row, and a split where there is such a column

No picture is opened here: the walk reads folder listings alone. Whatever is neither sample, hidden nor a system's own
file becomes a Problem, so that the number of samples never changes silently.
"""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from graft.data.sources.csv_list import SPLIT_NAMES, read_manifest
from graft.data.sources.walk import Listing, Problem, is_hidden, listing, walk
from graft.errors import BadFolder, nearest, shown

__all__ = ["Collection", "Problem", "Sample", "picture_paths", "scan"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and its label. path: absolute. label: index into the classes. split: "train", "val", "test" or None."""

    path: str
    label: int
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder's labelled pictures: classes sorted by name, samples and problems sorted by path."""

    root: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]


class _Labelled(NamedTuple):
    path: str
    class_name: str
    split: str | None


class _Contents(NamedTuple):
    """What a layout gave: every class name met, even one without pictures, and what carries them."""

    class_names: set[str]
    labelled: list[_Labelled]
    problems: list[Problem]


def scan(source: str | Path, *, csv: Path | None = None, follow_links: bool = False) -> Collection:
    """The classes, samples and problems of a folder, or of a CSV file.

    source: a folder, or a CSV file in the folder of its pictures. csv: lists what to take, instead of the folders'
    names; relative to here or to `source`. follow_links: also take links to folders and links that lead out of it.
    Raises BadFolder when there is no such folder, nothing to learn from in it, or a class that cannot be told apart.
    """
    root = os.path.abspath(source)
    if csv is None and os.path.isfile(root) and root.lower().endswith(".csv"):
        csv, root = Path(root), os.path.dirname(root)
    _refuse_no_folder(root)
    if csv is not None:
        contents = _from_csv(root, csv, follow_links)
    else:
        home = None if follow_links else os.path.realpath(root)
        top = _top(root, home)
        splits = _ready_splits(top)
        contents = _from_splits(top, splits, root, home) if splits else _from_class_folders(top, root, home, None)
    return _collection(root, contents)


def picture_paths(paths: Iterable[str]) -> Iterator[str]:
    """The pictures to predict, one at a time: memory holds one folder's listing, or one pattern's matches.

    paths: files (given back as they are, whatever their name), folders (every picture by its name in them and below,
    sorted, links followed, hidden and system names passed over) and patterns such as "photos/**/*.jpg".
    Raises BadFolder for a path or pattern that matches nothing, and for a folder that holds no picture or has a part
    that cannot be listed.
    """
    for path in paths:
        if os.path.lexists(path):
            yield from _pictures_of(path)
            continue
        found = _matches(path) if glob.has_magic(path) else []
        if not found:
            raise BadFolder(_no_such(path, "a picture, a folder or a pattern"))
        recursive = "**" in path  # such a pattern matches the folders and what is in them
        for match in found:
            if not (recursive and os.path.isdir(match)):
                yield from _pictures_of(match)


def _matches(pattern: str) -> list[str]:
    """What a pattern matches, sorted, without hidden and system names unless the pattern spells them out."""
    spelt = set(Path(pattern).parts)
    return sorted(
        match
        for match in glob.iglob(pattern, recursive=True)
        if not any(is_hidden(part) for part in Path(match).parts if part not in spelt)
    )


def _pictures_of(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    count = 0
    for found in walk(path, home=None):
        for problem in found.problems:
            if os.path.isdir(problem.path):
                raise BadFolder(
                    f"{shown(problem.path)}: expected a folder to search, found {problem.reason}; leave it out"
                )
        count += len(found.pictures)
        yield from found.pictures
    if not count:
        raise BadFolder(f"{shown(path)}: expected a folder with pictures, found none in it; check the path")


def _refuse_no_folder(root: str) -> None:
    if os.path.isdir(root):
        return
    if not os.path.lexists(root):
        raise BadFolder(_no_such(root, "a folder of pictures"))
    if root.lower().endswith(".zip"):
        raise BadFolder(f"{shown(root)}: expected a folder, found a zip archive; unpack it first")
    raise BadFolder(
        f"{shown(root)}: expected a folder, a zip or a CSV file, found something else; "
        "name the folder that holds the classes"
    )


def _no_such(path: str, expected: str) -> str:
    parent, name = os.path.split(os.path.abspath(path))
    try:
        siblings = os.listdir(parent)
    except OSError:  # no suggestion, then; the message stays true
        siblings = []
    return f"{shown(path)}: expected {expected}, found nothing there{shown(nearest(name, siblings))}; check the path"


def _top(root: str, home: str | None) -> Listing:
    try:
        top = listing(root, home=home)
    except OSError as error:
        raise BadFolder(
            f"{shown(root)}: expected a folder to read, found {error.strerror}; check permissions"
        ) from error
    if not any(top):
        raise BadFolder(f"{shown(root)}: expected a folder for each class, found an empty folder; put pictures there")
    if not top.folders:
        raise BadFolder(
            f"{shown(root)}: expected a folder for each class, found {len(top.pictures)} pictures and no "
            "folder; sort them into folders named after their classes, or list them in a CSV file"
        )
    return top


def _ready_splits(top: Listing) -> dict[str, str]:
    """Folder → split for the folders named as splits; empty unless these are `train` and at least one more."""
    splits = {
        folder: SPLIT_NAMES[name] for folder in top.folders if (name := os.path.basename(folder).lower()) in SPLIT_NAMES
    }
    return splits if "train" in splits.values() and len(set(splits.values())) > 1 else {}


def _from_splits(top: Listing, splits: dict[str, str], root: str, home: str | None) -> _Contents:
    by_split: dict[str, str] = {}
    for folder, split in splits.items():
        other = by_split.setdefault(split, folder)
        if other != folder:
            raise BadFolder(
                f"{shown(root)}: expected one folder for {split}, found '{shown(os.path.basename(other))}' and "
                f"'{shown(os.path.basename(folder))}'; merge them"
            )
    contents = _Contents(set(), [], list(top.problems))
    contents.problems.extend(Problem(path, "beside the ready splits, in none of them") for path in top.pictures)
    contents.problems.extend(
        Problem(path, "beside the ready splits, in none of them") for path in set(top.folders) - set(splits)
    )
    for folder, split in splits.items():
        try:
            inner = listing(folder, home=home)
        except OSError as error:
            contents.problems.append(Problem(folder, f"cannot be listed ({error.strerror})"))
            continue
        part = _from_class_folders(inner, root, home, split)
        contents.class_names.update(part.class_names)
        contents.labelled.extend(part.labelled)
        contents.problems.extend(part.problems)
    return contents


def _from_class_folders(top: Listing, root: str, home: str | None, split: str | None) -> _Contents:
    contents = _Contents(set(), [], list(top.problems))
    contents.problems.extend(Problem(path, "beside the class folders, in none of them") for path in top.pictures)
    for folder in top.folders:
        class_name = os.path.basename(folder)
        contents.class_names.add(class_name)
        for found in walk(folder, home=home, above=(root, os.path.dirname(folder))):
            contents.labelled.extend(_Labelled(path, class_name, split) for path in found.pictures)
            contents.problems.extend(found.problems)
    return contents


def _from_csv(root: str, csv: Path, follow_links: bool) -> _Contents:
    if not csv.exists() and not csv.is_absolute():
        csv = Path(root) / csv
    homes = tuple(dict.fromkeys((os.path.dirname(os.path.abspath(csv)), root)))
    rows, problems = read_manifest(csv, homes=homes, follow_links=follow_links)
    return _Contents({row.label for row in rows}, [_Labelled(row.path, row.label, row.split) for row in rows], problems)


def _collection(root: str, contents: _Contents) -> Collection:
    problems = tuple(sorted(contents.problems, key=lambda problem: (problem.path, problem.reason)))
    classes = tuple(sorted(contents.class_names))
    _refuse_unlearnable(root, classes, contents.labelled, problems)
    index = {name: label for label, name in enumerate(classes)}
    samples = tuple(Sample(path, index[name], split) for path, name, split in sorted(contents.labelled))
    return Collection(root, classes, samples, problems)


def _refuse_unlearnable(
    root: str, classes: tuple[str, ...], labelled: list[_Labelled], problems: tuple[Problem, ...]
) -> None:
    """Raises BadFolder where the classes are not two or more, each with a picture to learn from, and told apart."""
    if not labelled:
        aside = (
            f" ({len(problems)} set aside; the first, {shown(problems[0].path)}: {problems[0].reason})"
            if problems
            else ""
        )
        raise BadFolder(f"{shown(root)}: expected labelled pictures, found none{aside}; see which folder holds them")
    _refuse_clash(root, classes)
    if len(classes) < 2:
        raise BadFolder(
            f"{shown(root)}: expected at least two classes, found only '{shown(classes[0])}'; add another, or name the "
            "folder whose own folders are the classes"
        )
    to_learn = {name for _, name, split in labelled if split == "train"} or {name for _, name, _ in labelled}
    has_splits = any(split == "train" for _, _, split in labelled)
    for name in classes:
        if name not in to_learn:
            where = " to train on" if has_splits else ""
            raise BadFolder(
                f"{shown(root)}: expected pictures of every class{where}, found none of '{shown(name)}'; "
                "add some or remove it"
            )


def _refuse_clash(root: str, classes: tuple[str, ...]) -> None:
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise BadFolder(
                f"{shown(root)}: expected class names that differ in more than case or the way accents are "
                f"written, found {shown(ascii(other))} and {shown(ascii(name))}; rename or merge them"
            )
