"""A split written down: a CSV file with a row for each picture, so that every way trains, validates and tests alike."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Listed:
    """One picture of a split. path: relative to the folder of the pictures. part: "train", "val" or "test"."""

    path: str
    label: str
    part: str


def write_split(file: Path, pictures: Iterable[Listed]) -> None:
    """Write a split as `graft train --csv` reads it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        writer.writerows((picture.path, picture.label, picture.part) for picture in pictures)


def read_split(file: Path) -> tuple[Listed, ...]:
    """The pictures of a split, in the order of the file."""
    with file.open(encoding="utf-8", newline="") as stream:
        return tuple(Listed(row["path"], row["label"], row["split"]) for row in csv.DictReader(stream))


def digest(file: Path) -> str:
    """16 hex digits that stand for a split in the results."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def graft_split(folder: Path, cache: Path, *, seed: int) -> tuple[Listed, ...]:
    """graft's own split of class folders: a fifth for the test, a tenth of the rest for validation.

    Near-duplicates stay on one side; pictures that stand in two classes are trained on, and decide nothing.
    """
    import numpy as np
    from graft.run.learnt import gather

    from graft.data.preprocess import Preprocess
    from graft.data.sources.scan import scan
    from graft.data.split import assign_folds
    from graft.disk.table import Store
    from graft.features.extract import decode_once

    collection = scan(folder)
    decoded = decode_once(collection.samples, Preprocess(224), Store(cache))
    gathered = gather(collection, decoded, source=folder, test_fraction=0.2, seed=seed)
    in_train = gathered.indices("train")
    fold = assign_folds(
        gathered.labels[in_train], gathered.groups[in_train], decoded.key_array()[in_train], folds=10, seed=seed
    )
    parts = gathered.split.parts.copy()
    parts[in_train[fold == 0]] = "val"
    return tuple(
        Listed(str(Path(sample.path).relative_to(folder.resolve())), collection.classes[sample.label], str(part))
        for sample, part in zip(gathered.collection.samples, np.asarray(parts), strict=True)
    )


def first_of_each(pictures: tuple[Listed, ...], count: int) -> tuple[Listed, ...]:
    """The first `count` pictures of every class in every part."""
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for picture in pictures:
        kind = picture.part, picture.label
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= count:
            kept.append(picture)
    return tuple(kept)
