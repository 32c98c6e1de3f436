"""Learn: from a data set and a recipe to a classifier with its validation score; the test pictures are not scored.

Unless the strategy is given, a new head and fine-tuning are compared on pictures that neither is fitted to: the cheaper
one stays unless it is beaten beyond noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.heads.choose import FEWEST_TO_COMPARE, Choice
from graft.run.advice import advise_on
from graft.run.learned import Learned
from graft.run.prepare import Dataset, Pixels, read_as
from graft.run.probe import choose_on, probe_of
from graft.run.transfer import Transfer, transfer_of
from graft.run.workplace import Workplace
from graft.strategy.advice import Advice, Strategy, Trial, weigh
from graft.training.recipe.settings import Recipe

_PROBE_ALONE: Final = "the strategy asked for is a new head alone"
_RESERVED: Final = 15.0  # seconds of a budget for what comes after training: export, report


def learn(dataset: Dataset, recipe: Recipe, workplace: Workplace) -> Learned:
    """A classifier of the data set by the recipe.

    dataset: from `prepare`; it is read anew where the recipe names another network, or other ways to read pictures,
    than it was read by. A probe imports no torch once its trunk is in the cache. Raises GraftError where training would
    be in vain or its loss stops being finite, BadFolder where too few pictures are left.
    """
    dataset = read_as(dataset, recipe, workplace)
    if isinstance(dataset.read, Pixels):
        from graft.run.scratch import train_from_scratch

        return train_from_scratch(dataset, dataset.read, recipe, workplace)
    transfer = transfer_of(dataset, dataset.read, recipe, workplace)
    asked = dataset.read.asked
    if recipe.strategy == "probe" and asked is not None:  # there is nothing to advise
        with workplace.clock.step("head"):
            choice = choose_on(transfer, asked)
        return probe_of(transfer, Strategy("probe", asked), choice, None)
    with workplace.clock.step("advice"):
        advice = advise_on(transfer)
    if asked is not None:
        advice = replace(advice, probe=Strategy("probe", asked))
    return _by_advice(transfer, advice)


def _by_advice(transfer: Transfer, advice: Advice) -> Learned:
    """The classifier of the strategy that was asked for, or of the one that wins."""
    recipe, clock = transfer.recipe, transfer.workplace.clock
    if recipe.strategy == "finetune":
        return _tuned(transfer, advice)[0]
    with clock.step("head"):
        choice = choose_on(transfer, advice.probe.reads)
    why = _PROBE_ALONE if recipe.strategy == "probe" else _why_untried(transfer, choice)
    if why is not None:
        advice = replace(advice, decision=advice.probe, reason=(*advice.reason, f"Fine-tuning was not tried: {why}."))
        return probe_of(transfer, advice.probe, choice, advice)
    tuned, seconds = _tuned(transfer, advice)
    advice = _weighed(transfer, advice, choice, tuned, seconds)
    if advice.decision == tuned.strategy:
        return replace(tuned, advice=advice)
    return probe_of(transfer, advice.probe, choice, advice)


def _tuned(transfer: Transfer, advice: Advice) -> tuple[Learned, float]:
    """The fine-tuned network, and the seconds that it took."""
    from graft.run.finetune import tune

    with transfer.workplace.clock.step("fine-tuning"):
        return tune(transfer, advice, left=_seconds_left(transfer))


def _seconds_left(transfer: Transfer) -> float | None:
    """Of the budget, for fine-tuning itself; None without one.

    After it, every picture runs once more, a head is chosen as the probes were, and a reserve is for the rest.
    """
    clock, budget = transfer.workplace.clock, transfer.recipe.budget
    after = transfer.dataset.features.limit + clock.seconds["advice"] + _RESERVED
    return None if budget is None else budget - clock.total() - after


def _held_out(transfer: Transfer) -> NDArray[np.int64]:
    """The pictures on which strategies are compared: the validation part, or one part of the cross-validation."""
    given = transfer.dataset.indices("val")
    return given if len(given) else transfer.dataset.indices("train")[transfer.fold == 0]


def _why_untried(transfer: Transfer, choice: Choice) -> str | None:
    """Why fine-tuning cannot be compared with the probe, or None where it can."""
    held_out, given = _held_out(transfer), len(transfer.dataset.indices("val"))
    if len(held_out) < FEWEST_TO_COMPARE:
        return f"with {len(held_out)} held-out pictures no gain could be told from noise"
    if not given and transfer.fold.max() < 2:
        return "the classes have too few pictures to hold some back for a comparison"
    if not given and np.isnan(choice.held_out[transfer.fold == 0]).any():
        return "the pictures are too many for a cross-validation to compare it with; give them a validation split"
    left, once = _seconds_left(transfer), transfer.dataset.features.limit
    if left is not None and left < once:
        return f"of the budget {max(left, 0):,.0f} s were left, and one pass over the pictures takes {once:,.0f} s"
    return None


def _weighed(transfer: Transfer, advice: Advice, choice: Choice, tuned: Learned, seconds: float) -> Advice:
    """The advice after the trial: probe and tuned network on the same pictures, which neither has learnt from."""
    dataset, where = transfer.dataset, _held_out(transfer)
    if len(dataset.indices("val")):
        by_probe = transfer.probabilities(where, choice.head)
    else:
        by_probe = choice.held_out[transfer.fold == 0]
    labels = dataset.labels[where]
    trials = (
        Trial(advice.probe, by_probe.argmax(axis=1) == labels, transfer.workplace.clock.seconds["head"]),
        Trial(tuned.strategy, tuned.held_out["val"].argmax(axis=1) == labels, seconds),
    )
    weighed = weigh(advice, trials, dataset.groups[where])
    favour = "These pictures also chose the tuned network's epoch and head, which favours it a little."
    return replace(weighed, reason=(*weighed.reason, favour))
