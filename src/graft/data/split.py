"""Splits that do not leak: near-duplicates stay on one side, and the same pictures always fall the same way.

A group is placed by the SHA-256 of the seed and its smallest content key. So a split depends on the pictures and the
seed alone: not on paths, the order of files, the machine, or a random generator's version. A group whose pictures
carry different labels is learnt from but decides nothing: it stands in train, and in no fold.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.errors import BadFolder, UsageError

NO_FOLD: Final = -1  # always trained on, never scored


@dataclass(frozen=True, slots=True)
class Split:
    """Where each picture stands. parts: (n,) "train", "val" or "test". notes: what the owner should know, by line."""

    parts: NDArray[np.str_]
    notes: tuple[str, ...] = ()

    def indices(self, part: str) -> NDArray[np.int64]:
        """The pictures of one part, in ascending order."""
        return np.flatnonzero(self.parts == part)


@dataclass(frozen=True, slots=True)
class _Group:
    """Pictures that must stay together. members: ascending indices; order: a digest to sort by; label: None if torn."""

    members: NDArray[np.int64]
    order: bytes
    label: int | None


def assign_splits(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    keys: NDArray[np.uint8],
    *,
    classes: Sequence[str],
    test_fraction: float = 0.2,
    seed: int = 0,
    given: Sequence[str | None] | None = None,
) -> Split:
    """Train and test by class and by group, or the splits that came with the pictures.

    labels: (n,) indices into classes. groups: (n,) ids of near-duplicates. keys: (n, 16 or 32) digests of the files.
    given: "train", "val", "test" or None for each picture; where any is "val" or "test" these stand as they are, and
    `val` serves as the test where there is none. Otherwise each class gives the test as near to test_fraction of its
    pictures as its groups allow: at least one picture where it has two groups of its own, and never all of them.
    Raises UsageError unless 0 < test_fraction < 1, BadFolder for given splits with nothing to train on, ValueError for
    arrays that do not fit together.
    """
    _check(labels, groups, keys)
    if not 0 < test_fraction < 1:
        raise UsageError(f"the test fraction must lie between 0 and 1, got {test_fraction}; try 0.2")
    if given is not None and len(given) != len(labels):
        raise ValueError(f"given splits must be one for each of {len(labels)} pictures, got {len(given)}")
    if given is not None and not {"val", "test"}.isdisjoint(given):
        return _as_given(given, labels, groups, classes)

    parts, notes = np.full(len(labels), "train", "<U5"), []
    by_label = _by_label(_sorted_groups(labels, groups, keys, seed))
    if torn := by_label.get(None):
        pictures = sum(len(group.members) for group in torn)
        notes.append(f"pictures under different labels, kept in train: {pictures:,} (groups: {len(torn):,})")
    totals = np.bincount(labels, minlength=len(classes)).tolist()
    for label, (name, total) in enumerate(zip(classes, totals, strict=True)):
        whole = by_label.get(label, [])
        if len(whole) >= 2:
            for group in _drawn(whole, _share(total, test_fraction)):
                parts[group.members] = "test"
        elif total:
            notes.append(f"class {name!r} cannot be split ({_why(total)}): all of it is in train, none in the test")
    return Split(parts, tuple(notes))


def assign_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], keys: NDArray[np.uint8], *, folds: int, seed: int = 0
) -> NDArray[np.int64]:
    """(n,) folds for cross-validation: 0 to folds − 1, or NO_FOLD for groups under different labels.

    labels, groups, keys: as for assign_splits. Groups stay whole. Of each class, the largest groups are dealt first,
    each to the fold that has fewest of the class, then fewest of all; classes with fewer groups than folds are fine.
    Raises UsageError unless folds ≥ 2, ValueError for arrays that do not fit together.
    """
    _check(labels, groups, keys)
    if folds < 2:
        raise UsageError(f"cross-validation needs at least 2 folds, got {folds}; 5 is usual")
    assigned = np.full(len(labels), NO_FOLD, np.int64)
    in_all = [0] * folds
    by_label = _by_label(_sorted_groups(labels, groups, keys, seed))
    for label in np.unique(labels).tolist():
        whole = by_label.get(label, [])
        in_class = [0] * folds
        for group in sorted(whole, key=lambda group: -len(group.members)):  # stable: equal sizes stay in digest order
            fold = min(range(folds), key=lambda k: (in_class[k], in_all[k], k))
            assigned[group.members] = fold
            in_class[fold] += len(group.members)
            in_all[fold] += len(group.members)
    return assigned


def _check(labels: NDArray[np.int64], groups: NDArray[np.int64], keys: NDArray[np.uint8]) -> None:
    n = len(labels)
    if labels.shape != (n,) or groups.shape != (n,) or keys.dtype != np.uint8 or keys.ndim != 2 or len(keys) != n:
        raise ValueError(
            "labels and groups must be (n,) and keys (n, k) uint8, "
            f"got {labels.shape}, {groups.shape} and {keys.shape} {keys.dtype}"
        )


def _sorted_groups(
    labels: NDArray[np.int64], groups: NDArray[np.int64], keys: NDArray[np.uint8], seed: int
) -> list[_Group]:
    """The groups in the order of their digests: a shuffle that the seed and the contents alone decide."""
    by_group = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[by_group])) + 1
    found = []
    for members in np.split(by_group, cuts) if len(groups) else []:
        smallest = min(keys[i].tobytes() for i in members)
        held = labels[members]
        order = hashlib.sha256(b"%d:" % seed + smallest).digest()
        found.append(_Group(members, order, int(held[0]) if held.min() == held.max() else None))
    found.sort(key=lambda group: group.order)
    if any(a.order == b.order for a, b in itertools.pairwise(found)):
        raise ValueError("two groups hold a file with the same content key; group exact duplicates first")
    return found


def _by_label(groups: list[_Group]) -> dict[int | None, list[_Group]]:
    """Label → its groups, in the order given; None → the groups under different labels."""
    found: dict[int | None, list[_Group]] = {}
    for group in groups:
        found.setdefault(group.label, []).append(group)
    return found


def _drawn(whole: list[_Group], target: int) -> list[_Group]:
    """Two or more groups of one class, in digest order → those that go to the test: some, never all.

    Groups are taken in order while they fit into `target` pictures. Where that falls short, the number of groups of
    each size is chosen anew, to come as near as can be.
    """
    target = max(1, target)
    taken, room = [], target
    for group in whole[:-1]:
        if len(group.members) <= room:
            taken.append(group)
            room -= len(group.members)
    if not room:
        return taken
    wanted = _nearest_sizes(Counter(len(group.members) for group in whole), target)
    taken = []
    for group in whole:
        if wanted[len(group.members)]:
            taken.append(group)
            wanted[len(group.members)] -= 1
    return taken


def _nearest_sizes(sizes: Counter[int], target: int) -> Counter[int]:
    """How many groups of each size add up nearest to target: some, never all; the smaller total on a tie.

    sizes: size → how many groups have it. A subset sum: bit s of `reached` tells whether some groups add up to s.
    """
    reached, before = 1, {}
    for size in sorted(sizes):
        before[size] = reached
        for _ in range(sizes[size]):
            reached |= reached << size
    everything = sum(size * count for size, count in sizes.items())
    left = next(
        s
        for distance in itertools.count()
        for s in (target - distance, target + distance)
        if 0 < s < everything and reached >> s & 1
    )
    chosen: Counter[int] = Counter()
    for size in sorted(sizes, reverse=True):
        while not before[size] >> left & 1:
            chosen[size] += 1
            left -= size
    return chosen


def _as_given(
    given: Sequence[str | None], labels: NDArray[np.int64], groups: NDArray[np.int64], classes: Sequence[str]
) -> Split:
    """The splits that came with the pictures, with `val` as the test where there is none."""
    if unknown := set(given) - {"train", "val", "test", None}:
        raise ValueError(f"given splits must be train, val, test or None, got {sorted(map(str, unknown))}")
    parts, notes = np.array([part or "train" for part in given], "<U5"), []
    if "train" not in parts:
        raise BadFolder("expected pictures to train on, found only val and test; add a train split or give none")
    if undecided := sum(part is None for part in given):
        notes.append(f"pictures without a split, put in train: {undecided:,}")
    if "test" not in parts:
        parts[parts == "val"] = "test"
        notes.append("there is no test split: val serves as the test")
    if untested := [name for label, name in enumerate(classes) if label not in labels[parts == "test"]]:
        notes.append(f"classes without a picture in the test: {', '.join(map(repr, untested))}")
    order = np.argsort(groups, kind="stable")
    same = groups[order][1:] == groups[order][:-1]
    torn = np.unique(groups[order][1:][same & (parts[order][1:] != parts[order][:-1])])
    if len(torn):
        notes.append(f"groups of duplicates in more than one of the given splits: {len(torn):,}; see the audit")
    return Split(parts, tuple(notes))


def _share(total: int, fraction: float) -> int:
    """A fraction of total to the nearest whole number, halves up; 0.3 means three tenths, not the nearest binary."""
    return int(total * Fraction(repr(float(fraction))) + Fraction(1, 2))


def _why(total: int) -> str:
    return "one picture" if total == 1 else f"its {total:,} pictures are one group of duplicates, or contradict"
