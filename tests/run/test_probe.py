"""The head that a tuned network ends with: its own, or one chosen anew, as its validation pictures say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from graft.evaluate.calibration import softmax
from graft.evaluate.intervals import paired_difference
from graft.features.rows import Floats, Rows
from graft.features.trunk import TOP
from graft.heads.head import Head
from graft.progress import silent
from graft.run.prepare import Dataset
from graft.run.probe import choose_on, last_head
from graft.run.transfer import Transfer
from graft.training.recipe.settings import Recipe

TRAIN, VAL = 300, 60
STAGE, FEATURE = slice(0, 2), slice(2, 4)


def ground(*, val: int = VAL, told_by_stage: bool = True, seed: int = 0, recipe: Recipe | None = None) -> Transfer:
    """Two classes. The features tell them apart but for some; a stage, by the side of a curve, nearly always or never.

    What `last_head` asks of its pictures and features, and nothing else.
    """
    draw = np.random.default_rng(seed)
    labels = (draw.random(TRAIN + val) < 0.3).astype(np.int64)
    features = draw.normal(size=(len(labels), 2)) + 1.2 * (labels[:, None] - 0.5)
    stage = draw.normal(size=(len(labels), 2))
    if told_by_stage:
        stage[:, 1] += 6 * (labels - 0.5)
    matrix = np.concatenate([stage, features], axis=1).astype(np.float32)

    def rows(which: NDArray[np.int64], columns: tuple[slice, ...]) -> Rows:
        chosen: Floats = np.concatenate([matrix[which][:, part] for part in columns], axis=1)
        return Rows(len(chosen), chosen.shape[1], lambda part: chosen[part])

    parts = {"train": np.arange(TRAIN), "val": np.arange(TRAIN, TRAIN + val)}
    dataset = SimpleNamespace(
        labels=labels, groups=np.arange(len(labels)), indices=parts.__getitem__, classes=("a", "b"),
        features=SimpleNamespace(rows=rows),
    )  # fmt: skip
    dataset.class_weights = lambda which, how: Dataset.class_weights(cast(Any, dataset), which, how)
    trunk = SimpleNamespace(columns={"stage": STAGE, "features": FEATURE}.__getitem__)
    fold = draw.integers(0, 5, TRAIN)
    place = SimpleNamespace(progress=silent)
    return Transfer(cast(Any, dataset), cast(Any, None), cast(Any, trunk), fold, recipe or Recipe(), cast(Any, place))


OWN = Head("logistic", np.float32([[-3, -3], [3, 3]]), np.zeros(2, np.float32))
"""The best there is on these features, and far too sure."""


def right(found: Transfer, head: Head, columns: slice) -> NDArray[np.bool_]:
    dataset = cast(Any, found.dataset)
    val = dataset.indices("val")
    logits = head.logits(dataset.features.rows(val, (columns,)).read(slice(None)))
    return np.asarray(logits.argmax(axis=1) == dataset.labels[val])


def test_a_head_that_is_right_more_often_takes_the_place_of_the_networks_own() -> None:
    found = ground()
    last = last_head(found, OWN, ("stage",))
    assert last.head.reads == ("stage",)
    theirs, own = right(found, last.head, STAGE), right(found, OWN, FEATURE)
    assert theirs.mean() > own.mean() + 0.05
    expected = paired_difference(theirs, own)
    assert last.gain is not None
    np.testing.assert_allclose(
        (last.gain.value, last.gain.low, last.gain.high), (expected.value, expected.low, expected.high), atol=1e-9
    )
    assert last.reason.startswith("a new head: ")
    assert f"gains {expected.points()} on 60 validation pictures" in last.reason


def test_one_that_is_not_leaves_it_where_it_is() -> None:
    last = last_head(ground(told_by_stage=False), OWN, ("stage",))
    assert last.head.reads == TOP
    assert last.gain is not None
    assert last.gain.value < 0
    assert last.reason.startswith("the network keeps its own head: ")


def test_where_validation_pictures_are_too_few_to_judge_the_head_is_new() -> None:
    for val in (0, 1, 39):
        found = ground(val=val, told_by_stage=False)
        last = last_head(found, OWN, ("stage",))
        assert (last.head.reads, last.gain, len(last.trials)) == (("stage",), None, 3)
        chosen = choose_on(found, ("stage",)).head
        np.testing.assert_array_equal(last.head.weight, chosen.weight)  # no temperature is set on so few
        assert f"; {val} validation pictures are too few" in last.reason


def test_near_duplicates_of_training_pictures_are_not_asked() -> None:
    found = ground()
    cast(Any, found.dataset).groups[TRAIN : TRAIN + 21] = 0
    last = last_head(found, OWN, ("stage",))
    assert last.gain is None
    assert "39 validation pictures are too few" in last.reason


def test_balanced_classes_weigh_alike_and_near_duplicates_count_once() -> None:
    """Each validation picture twice gives what each once does."""
    once, twice = (ground(recipe=Recipe(class_weights="balanced")) for _ in range(2))
    dataset = cast(Any, twice.dataset)
    val = dataset.indices("val")
    dataset.indices = {"train": np.arange(TRAIN), "val": np.repeat(val, 2)}.__getitem__
    single, double = (last_head(each, OWN, ("stage",)) for each in (once, twice))
    assert single.gain is not None
    assert double.gain is not None
    labels = dataset.labels[val]
    gains = right(once, single.head, STAGE).astype(float) - right(once, OWN, FEATURE)
    expected = np.mean([gains[labels == label].mean() for label in (0, 1)])
    assert expected != pytest.approx(gains.mean(), abs=1e-3)
    assert single.gain.value == pytest.approx(expected, abs=1e-6)
    assert "classes weighed alike" in single.reason
    alike = [(each.gain.low, each.gain.value, each.gain.high) for each in (single, double) if each.gain]
    np.testing.assert_allclose(alike[1], alike[0], atol=2e-3)  # copies of what is known add nothing


@pytest.mark.parametrize("told_by_stage", [True, False])
def test_it_is_as_sure_as_the_validation_pictures_say(told_by_stage: bool) -> None:
    """Any other temperature has a larger log loss on them; one row of no certainty is added, as in Head's own."""
    found = ground(told_by_stage=told_by_stage)
    last = last_head(found, OWN, ("stage",))
    dataset, columns = cast(Any, found.dataset), STAGE if told_by_stage else FEATURE
    val = dataset.indices("val")
    x = dataset.features.rows(val, (columns,)).read(slice(None))
    logits, labels = last.head.logits(x), dataset.labels[val]

    def loss(factor: float) -> float:
        given = softmax(np.float32(factor) * logits)
        spread = softmax(np.float32(factor) * (logits - logits.mean(axis=1, keepdims=True)))
        added = -np.log(spread).mean(axis=1).mean()  # of every class equally
        return float(-np.log(given[np.arange(len(labels)), labels]).sum() + added)

    assert loss(1.0) < min(loss(0.9), loss(1.1))
