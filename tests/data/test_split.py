"""Splits and folds: no group torn, any order alike, counts as near as can be, and one case fixed for good."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from graft.data.split import NO_FOLD, _nearest_sizes, assign_folds, assign_splits
from graft.errors import BadFolder, UsageError


class Case(NamedTuple):
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    keys: NDArray[np.uint8]
    classes: tuple[str, ...]


def keys_of(n: int, salt: int = 0) -> NDArray[np.uint8]:
    digests = b"".join(hashlib.sha256(b"%d/%d" % (salt, i)).digest() for i in range(n))
    return np.frombuffer(digests, np.uint8).reshape(n, 32)


def plain(*sizes: int) -> Case:
    """Classes of these sizes, every picture a group of its own."""
    n = sum(sizes)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return Case(labels, np.arange(n), keys_of(n), tuple("abcdefghij"[: len(sizes)]))


def random_case(seed: int) -> Case:
    """Up to 120 pictures in up to 5 classes, in groups of up to 6, some of them under two labels."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(2, 121)), int(rng.integers(2, 6))
    groups = np.sort(rng.integers(0, rng.integers(n // 4 + 1, 2 * n), n))
    labels = rng.integers(0, classes, groups.max() + 1)[groups]
    torn = rng.random(n) < 0.05
    labels[torn] = rng.integers(0, classes, int(torn.sum()))
    order = rng.permutation(n)
    return Case(labels[order], groups[order], keys_of(n, seed), tuple("abcde"[:classes]))


def torn_groups(case: Case) -> set[int]:
    return {g for g in case.groups.tolist() if len(set(case.labels[case.groups == g].tolist())) > 1}


def in_other_order(case: Case, order: NDArray[np.int64]) -> Case:
    names = np.random.default_rng(0).permutation(case.groups.max() + 1)  # group ids say nothing either
    return Case(case.labels[order], names[case.groups[order]], case.keys[order], case.classes)


def split_of(case: Case, *, test_fraction: float = 0.2, seed: int = 0) -> NDArray[np.str_]:
    labels, groups, keys, classes = case
    return assign_splits(labels, groups, keys, classes=classes, test_fraction=test_fraction, seed=seed).parts


CASES = range(200)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_every_split_keeps_groups_whole_and_counts_as_near_as_can_be(fraction: float) -> None:
    splittable = 0
    for number in CASES:
        case = random_case(number)
        parts = split_of(case, test_fraction=fraction)
        torn = torn_groups(case)
        for group in set(case.groups.tolist()):
            sides = set(parts[case.groups == group].tolist())
            assert sides == {"train"} if group in torn else len(sides) == 1
        for label in range(len(case.classes)):
            of_class = case.labels == label
            whole = Counter(g for g in case.groups[of_class].tolist() if g not in torn)
            found = int((parts[of_class] == "test").sum())
            if len(whole) < 2:
                assert found == 0
                continue
            splittable += 1
            target = max(1, np.floor(fraction * of_class.sum() + 0.5 + 1e-9))
            sums = {0}
            for size in whole.values():
                sums |= {s + size for s in sums}
            possible = sums - {0, max(sums)}
            assert abs(found - target) == min(abs(s - target) for s in possible), (number, label)
    assert splittable > 200


def test_a_split_depends_on_contents_and_seed_alone() -> None:
    changed = 0
    for number in CASES:
        case = random_case(number)
        order = np.random.default_rng(number).permutation(len(case.labels))
        parts = split_of(case)
        np.testing.assert_array_equal(split_of(in_other_order(case, order)), parts[order])
        changed += (split_of(case, seed=1) != parts).any()
    assert changed > 100


def test_this_split_never_changes() -> None:
    case = plain(10, 6)
    assert "".join(part[1] for part in split_of(case, test_fraction=0.3, seed=7)) == "errrrerrerrrerer"
    labels, groups, keys, _ = case
    assert assign_folds(labels, groups, keys, folds=3, seed=7).tolist() == [
        2,
        2,
        1,
        0,
        0,
        1,
        0,
        2,
        0,
        1,
        0,
        1,
        1,
        2,
        2,
        0,
    ]
    # By hand: of 6 pictures the 2 with the smallest SHA-256 of "7:" and their key are the test.
    digests = [hashlib.sha256(b"7:" + key.tobytes()).digest() for key in keys[10:]]
    assert set(np.argsort(np.array(digests, object))[:2] + 10) == {
        i for i, part in enumerate(split_of(case, test_fraction=0.3, seed=7)) if part == "test" and i >= 10
    }


def test_counts_without_groups_are_exact() -> None:
    for fraction, expected in (
        (0.2, [20, 2, 1, 1]),
        (0.3, [30, 3, 2, 1]),
        (0.99, [99, 9, 4, 1]),
        (0.001, [1, 1, 1, 1]),
    ):
        case = plain(100, 10, 5, 2)
        parts = split_of(case, test_fraction=fraction)
        assert [int((parts[case.labels == label] == "test").sum()) for label in range(4)] == expected


def test_a_class_that_cannot_be_split_is_learnt_from_and_said() -> None:
    labels = np.array([0] * 10 + [1] + [2] * 3)
    groups = np.array([*range(11), 11, 11, 11])
    split = assign_splits(labels, groups, keys_of(14), classes=("a", "one", "copies"))
    assert set(split.parts[10:].tolist()) == {"train"}
    assert split.notes == (
        "class 'one' cannot be split (one picture): all of it is in train, none in the test",
        (
            "class 'copies' cannot be split (its 3 pictures are one group of duplicates, or contradict): "
            "all of it is in train, none in the test"
        ),
    )


def test_a_picture_under_two_labels_never_decides() -> None:
    labels, groups = np.array([0] * 5 + [1] * 5), np.array([0, 1, 2, 3, 4, 4, 5, 6, 7, 8])
    for seed in range(20):
        split = assign_splits(labels, groups, keys_of(10), classes=("a", "b"), test_fraction=0.6, seed=seed)
        assert set(split.parts[4:6].tolist()) == {"train"}
        assert split.notes == ("pictures under different labels, kept in train: 2 (groups: 1)",)
        assert assign_folds(labels, groups, keys_of(10), folds=2, seed=seed)[4:6].tolist() == [NO_FOLD, NO_FOLD]


def test_given_splits_stand() -> None:
    labels, groups, keys, classes = plain(3, 3)
    given = ["train", "val", "test", "train", None, "test"]
    split = assign_splits(labels, groups, keys, classes=classes, given=given)
    assert split.parts.tolist() == ["train", "val", "test", "train", "train", "test"]
    assert split.notes == ("pictures without a split, put in train: 1",)
    assert split.indices("test").tolist() == [2, 5]


def test_val_serves_as_the_test_where_there_is_none() -> None:
    labels, groups, keys, classes = plain(3, 3)
    groups = np.array([0, 1, 2, 3, 1, 5])
    split = assign_splits(
        labels, groups, keys, classes=classes, given=["train", "val", "val", "train", "train", "train"]
    )
    assert split.parts.tolist() == ["train", "test", "test", "train", "train", "train"]
    assert split.notes == (
        "there is no test split: val serves as the test",
        "classes without a picture in the test: 'b'",
        "groups of duplicates in more than one of the given splits: 1; see the audit",
    )


def test_train_alone_is_no_given_split() -> None:
    labels, groups, keys, classes = plain(10, 10)
    carved = assign_splits(labels, groups, keys, classes=classes)
    given = assign_splits(labels, groups, keys, classes=classes, given=["train", None] * 10)
    np.testing.assert_array_equal(given.parts, carved.parts)


def test_folds_keep_groups_whole_and_classes_even() -> None:
    for number in CASES:
        case = random_case(number)
        labels, groups, keys, _ = case
        folds = 2 + number % 4
        found = assign_folds(labels, groups, keys, folds=folds, seed=number)
        torn = torn_groups(case)
        for group in set(groups.tolist()):
            held = set(found[groups == group].tolist())
            assert held == {NO_FOLD} if group in torn else len(held) == 1 and held <= set(range(folds))
        for label in set(labels.tolist()):
            of_class = found[labels == label]
            counts = np.bincount(of_class[of_class != NO_FOLD], minlength=folds)
            largest = max((int((groups == g).sum()) for g in groups[labels == label] if g not in torn), default=0)
            assert np.ptp(counts) <= largest  # dealt to the emptiest fold, largest first
        order = np.random.default_rng(number).permutation(len(labels))
        other = in_other_order(case, order)
        again = assign_folds(other.labels, other.groups, other.keys, folds=folds, seed=number)
        np.testing.assert_array_equal(again, found[order])


def test_small_classes_are_spread_over_the_folds() -> None:
    labels, groups, keys, _ = plain(2, 2, 2, 2, 2)
    found = assign_folds(labels, groups, keys, folds=5)
    assert np.bincount(found, minlength=5).tolist() == [2] * 5


def test_large_groups_are_dealt_first() -> None:
    groups = np.array([0, 1, 2, 3, 4, 4, 4, 4])
    for seed in range(20):
        found = assign_folds(np.zeros(8, np.int64), groups, keys_of(8), folds=2, seed=seed)
        assert np.bincount(found).tolist() == [4, 4]


def test_nearest_sizes_agree_with_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 9, rng.integers(2, 8)).tolist()
        target = int(rng.integers(1, sum(sizes) + 3))
        sums = {sum(some) for k in range(1, len(sizes)) for some in itertools.combinations(sizes, k)}
        chosen = _nearest_sizes(Counter(sizes), target)
        assert chosen <= Counter(sizes)
        assert sum(size * n for size, n in chosen.items()) == min(sums, key=lambda s: (abs(s - target), s))


def test_bad_values_are_refused_at_the_door() -> None:
    labels, groups, keys, classes = plain(3, 3)
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            assign_splits(labels, groups, keys, classes=classes, test_fraction=fraction)
    with pytest.raises(UsageError, match="at least 2 folds, got 1"):
        assign_folds(labels, groups, keys, folds=1)
    with pytest.raises(BadFolder, match="to train on"):
        assign_splits(labels, groups, keys, classes=classes, given=["test"] * 6)
    with pytest.raises(ValueError, match="train, val, test or None"):
        assign_splits(labels, groups, keys, classes=classes, given=["test", "dev", *["train"] * 4])
    with pytest.raises(ValueError, match="same content key"):
        assign_splits(labels, groups, keys[[0, 0, 1, 2, 3, 4]], classes=classes)
    with pytest.raises(ValueError, match=r"\(6,\), \(5,\)"):
        assign_splits(labels, groups[:5], keys, classes=classes)
