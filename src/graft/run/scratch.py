"""A whole network from fresh weights: checked by the gate, trained by the loop, exported, and judged by its graph."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.classifier.manifest import HeadRecord
from graft.errors import GraftError, shown
from graft.models.fresh import Plan
from graft.run.learned import Learned, NetworkOf, phase_of
from graft.run.network import graph_of, head_name, network_for, normalization_for, preprocess_of, tensors_of
from graft.run.prepare import Dataset, Pixels
from graft.run.resume import same_pictures
from graft.run.transfer import with_validation
from graft.run.workplace import Workplace
from graft.runtime.export import LUMA
from graft.runtime.onnx import OnnxRunner
from graft.runtime.stream import ordered_map
from graft.strategy.advice import Strategy
from graft.training.checks.curves import verdict
from graft.training.loop.history import HISTORY, read_history
from graft.training.loop.pictures import Pictures
from graft.training.recipe.normalize import Normalization
from graft.training.recipe.settings import Recipe

RANDOM_SEARCH: Final = "random-search"  # learns nothing by heart, so the gate has nothing to ask of it
_TIMED: Final = 32  # pictures, by which a pass over all of them is reckoned


def train_from_scratch(dataset: Dataset, pixels: Pixels, recipe: Recipe, workplace: Workplace) -> Learned:
    """Train a network on a data set that was read as pixels.

    Raises GraftError when the gate finds that training would be in vain, or the loss stops being finite.
    """
    from graft.models.auxiliary import trained_form
    from graft.training.loop.fit import fit

    clock, planned = workplace.clock, pixels.planned
    with clock.step("audit and split"):
        dataset = with_validation(dataset, recipe.seed)
    train, val = (_pictures(dataset, part, planned) for part in ("train", "val"))
    same_pictures(workplace.state, dataset, repr(planned), resume=workplace.resume)
    normalization = normalization_for(train, recipe.normalization, recipe.fit)
    preprocess = preprocess_of(pixels.preprocess, normalization)
    network, published = network_for(planned, len(dataset.classes), recipe)
    checks: list[dict[str, Any]] = []
    if recipe.gate and not workplace.resume and recipe.optimizer != RANDOM_SEARCH:
        with clock.step("gate"):
            checks = _gate(dataset, planned, recipe, train, normalization, workplace)
    with clock.step("training"):
        outcome = fit(
            trained_form(network), train, val if len(val) else None, recipe, normalization=normalization,
            folder=workplace.state, resume=workplace.resume, watch=workplace.watch, device=workplace.device,
        )  # fmt: skip
    clock.seconds["training"] = max(clock.seconds["training"], outcome.seconds)  # and before it was stopped
    if outcome.why == "not finite":
        raise GraftError(
            f"training stopped at a loss that is not finite: {outcome.reason}; the last good weights are in "
            f"{shown(workplace.state)}, begin anew with --force"
        )
    with clock.step("model"):
        graph = graph_of(network, preprocess, normalization, dataset.classes)
        run_once = _seconds_of_a_pass(dataset, graph)
    history = read_history(workplace.state)

    def answer(which: NDArray[np.int64]) -> NDArray[np.float32]:
        return _probabilities(dataset, which, graph, workplace)

    which = dataset.indices("val")
    return Learned(
        dataset=dataset,
        recipe=recipe,
        strategy=Strategy("scratch"),
        words=f"from scratch: {outcome.epochs} epochs with {recipe.optimizer}, the weights of epoch "
        f"{outcome.best_epoch} kept",
        network=NetworkOf(
            planned.network, planned.builder, planned.architecture,
            {"activation": recipe.activation} if recipe.activation else {},
        ),
        preprocess=preprocess,
        head=HeadRecord(layer=head_name(network, published)),
        calibration="none",
        graph=graph,
        tensors=tensors_of(network, published, normalization),
        answer=answer,
        held_out={"val": answer(which)} if len(which) else {},
        limit=dataset.features.limit + run_once,
        history=(workplace.state / HISTORY).read_bytes(),
        curves=history,
        record={
            "verdict": [f"{finding.name}: {finding.evidence}" for finding in verdict(history)],
            "phases": [phase_of(outcome)],
            "notices": outcome.notices,
            "gate": checks,
        },
    )  # fmt: skip


def _pictures(dataset: Dataset, part: str, planned: Plan) -> Pictures:
    """One part of the split as the loop takes it; their numbers are their places in the whole collection."""
    which = dataset.indices(part)
    read = dataset.features.pixels(which)
    if planned.channels == 1:
        luma, colour = np.array(LUMA, np.float32), read
        read = lambda wanted: np.rint(colour(wanted) @ luma)[..., None].astype(np.uint8)  # noqa: E731
    return Pictures(dataset.labels[which], which, (planned.side, planned.side, planned.channels), read)


def _probabilities(
    dataset: Dataset, which: NDArray[np.int64], graph: bytes, workplace: Workplace
) -> NDArray[np.float32]:
    """(n, K) of some pictures, as they were decoded, through the finished graph, one at a time in every core."""
    read, run_graph, rows = dataset.features.pixels(which), OnnxRunner(graph), []
    for number, row in enumerate(ordered_map(lambda i: run_graph(read(np.array([i])))[0], range(len(which))), 1):
        rows.append(row)
        workplace.progress("scoring pictures", number, len(which))
    return np.stack(rows) if rows else np.empty((0, len(dataset.classes)), np.float32)


def _seconds_of_a_pass(dataset: Dataset, graph: bytes) -> float:
    """Seconds that all pictures take through the graph in all cores, by a few of them."""
    count = len(dataset.labels)
    some = np.unique(np.linspace(0, count - 1, min(count, _TIMED)).astype(np.int64))
    read, run_graph = dataset.features.pixels(some), OnnxRunner(graph)
    began = time.perf_counter()
    for _ in ordered_map(lambda i: run_graph(read(np.array([i]))), range(len(some))):
        pass
    return (time.perf_counter() - began) * count / len(some)


def _gate(
    dataset: Dataset, planned: Plan, recipe: Recipe, train: Pictures, normalization: Normalization, workplace: Workplace
) -> list[dict[str, Any]]:
    """What the checks before training found, for the record. Raises GraftError, with the causes, when one fails."""
    from graft.training.checks.gate import gate
    from graft.training.recipe.losses import loss_function
    from graft.training.recipe.optimizers import find, optimizer, parameter_groups

    workplace.progress("checking the set-up before training", 0, 1)
    unregularised = replace(recipe, dropout=None, dropconnect=None, stochastic_depth=None)
    report = gate(
        lambda: network_for(planned, len(dataset.classes), unregularised)[0],
        loss_function(recipe.loss, smoothing=recipe.label_smoothing),
        train,
        num_classes=len(dataset.classes),
        normalization=normalization,
        make_optimizer=lambda network, rate: optimizer(
            recipe.optimizer, parameter_groups(network, 0.0), rate=rate, momentum=recipe.momentum
        ),
        rate=recipe.rate or find(recipe.optimizer).rate,
        seed=recipe.seed,
    )
    workplace.progress("checking the set-up before training", 1, 1)
    failed = [check for check in report.checks if check.status == "failed"]
    if failed:
        found = "; ".join(f"{check.name}: {check.found} (likely {', or '.join(check.causes)})" for check in failed)
        raise GraftError(f"training was not begun, for a check failed: {found}; mend it, or go on with --no-gate")
    return [asdict(check) for check in report.checks]
