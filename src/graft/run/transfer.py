"""`graft train` on a pretrained network: a new head on its features, or its upper stages tuned as well.

One pass of every picture through the frozen network gives the features of each stage. Probes on them, and the lectures'
table, advise a strategy; a head is chosen by cross-validation. Unless the strategy is given, fine-tuning is then tried
and both are compared on pictures that neither is fitted to: the cheaper one stays unless it is beaten beyond noise.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from graft.classifier.artefact import MANIFEST, SCHEMA, Manifest, preprocess_fields, save, seal
from graft.data.sources.opened import opened
from graft.disk.cache import cache_folder
from graft.disk.output import new_folder
from graft.evaluate.metrics import to_json
from graft.heads.choose import FEWEST_TO_COMPARE, Choice
from graft.heads.head import probabilities
from graft.progress import Progress
from graft.run.advice import advise_on
from graft.run.clock import Clock
from graft.run.ground import FOLDS, Ground, Grown, Tuned, ground_of
from graft.run.heads import CALIBRATED, choose_on, plant, rows_of
from graft.run.learnt import (
    data_record,
    golden,
    judged,
    run_record,
    samples_csv,
    test_scores,
)
from graft.run.report import page
from graft.run.settings import TrainSettings
from graft.run.state import Watch, run_state
from graft.strategy.advice import Advice, Strategy, Trial, weigh
from graft.training.loop.history import HISTORY

_PROBE_ALONE: Final = "the strategy asked for is a new head alone"
_RESERVED: Final = 15.0  # seconds of a budget for what comes after training: export, report


def run(
    folder: Path, out: Path, settings: TrainSettings, *, force: bool, progress: Progress, watch: Watch | None = None
) -> Manifest:
    """What `train` does for the strategies `auto`, `probe` and `finetune`; returns the manifest of the folder.

    watch: gets the history of the network that is tuned, line by line. A probe imports no torch once its trunk is
    cached.
    """
    clock = Clock()
    state = out.absolute().with_name(f"{out.name}.training")
    with (
        new_folder(out, source=folder, force=force, mark=MANIFEST) as partial,
        opened(
            folder, cache_folder(settings.cache), csv=settings.csv, follow_links=settings.follow_links,
            progress=progress,
        ) as collection,
        contextlib.nullcontext()
        if settings.strategy == "probe"
        else run_state(state, out, resume=settings.resume, force=force),
    ):  # fmt: skip
        ground = ground_of(collection, folder, settings, clock, progress)
        rungs = ground.asked
        advice: Advice | None = None
        if settings.strategy == "probe" and rungs is not None:  # there is nothing to advise
            with clock.step("head"):
                asked = Strategy("probe", rungs)
                choice = choose_on(ground, asked.rungs, settings, progress)
            with clock.step("model"):
                grown = _probe(ground, asked, choice)
        else:
            with clock.step("advice"):
                advice = advise_on(ground.gathered, ground.trunk, ground.fold, settings, progress=progress)
                advice = advice if rungs is None else replace(advice, probe=Strategy("probe", rungs))
            grown, advice = _grow(ground, advice, settings, clock, state=state, progress=progress, watch=watch)
        manifest = _finish(grown, advice, ground, folder, partial, out, settings, clock)
    shutil.rmtree(state, ignore_errors=True)
    ground.store.trim()
    return manifest


def _grow(
    ground: Ground,
    advice: Advice,
    settings: TrainSettings,
    clock: Clock,
    *,
    state: Path,
    progress: Progress,
    watch: Watch | None,
) -> tuple[Grown, Advice]:
    """The classifier of the strategy that was asked for, or that wins; and the advice, with what trials add to it."""
    if settings.strategy == "finetune":
        return _tuned(ground, advice, settings, clock, state=state, progress=progress, watch=watch).grown, advice
    with clock.step("head"):
        choice = choose_on(ground, advice.probe.rungs, settings, progress)
    why = _PROBE_ALONE if settings.strategy == "probe" else None
    why = why or _why_untried(ground, choice, _seconds_left(ground, settings, clock))
    if why is not None:
        advice = replace(advice, decision=advice.probe, reason=(*advice.reason, f"Fine-tuning was not tried: {why}."))
    else:
        tuned = _tuned(ground, advice, settings, clock, state=state, progress=progress, watch=watch)
        advice = _weighed(advice, ground, choice, tuned, probe_seconds=clock.seconds["head"])
        if advice.decision == tuned.grown.strategy:
            return tuned.grown, advice
    with clock.step("model"):
        return _probe(ground, advice.probe, choice), advice


def _tuned(
    ground: Ground,
    advice: Advice,
    settings: TrainSettings,
    clock: Clock,
    *,
    state: Path,
    progress: Progress,
    watch: Watch | None,
) -> Tuned:
    from graft.run.finetune import tune

    left = _seconds_left(ground, settings, clock)
    with clock.step("fine-tuning"):
        return tune(ground, advice, settings, left=left, folder=state, progress=progress, watch=watch)


def _seconds_left(ground: Ground, settings: TrainSettings, clock: Clock) -> float | None:
    """Of the budget, for fine-tuning itself; None without one.

    After it, every picture runs once more, a head is chosen as the probes were, and a reserve is for the rest.
    """
    budget = settings.training.budget if settings.training else None
    after = ground.gathered.features.limit + clock.seconds["advice"] + _RESERVED
    return None if budget is None else budget - clock.total() - after


def _held_out(ground: Ground) -> NDArray[np.int64]:
    """The pictures on which strategies are compared: the validation part, or one part of the cross-validation."""
    given = ground.gathered.indices("val")
    return given if len(given) else ground.gathered.indices("train")[ground.fold == 0]


def _why_untried(ground: Ground, choice: Choice, left: float | None) -> str | None:
    """Why fine-tuning cannot be compared with the probe, or None where it can. left: seconds, None without a budget."""
    held_out, given = _held_out(ground), len(ground.gathered.indices("val"))
    if len(held_out) < FEWEST_TO_COMPARE:
        return f"with {len(held_out)} held-out pictures no gain could be told from noise"
    if not given and ground.fold.max() < 2:
        return "the classes have too few pictures to hold some back for a comparison"
    if not given and np.isnan(choice.held_out[ground.fold == 0]).any():
        return "the pictures are too many for a cross-validation to compare it with; give them a validation split"
    once = ground.gathered.features.limit
    if left is not None and left < once:
        return f"of the budget {max(left, 0):,.0f} s were left, and one pass over the pictures takes {once:,.0f} s"
    return None


def _weighed(advice: Advice, ground: Ground, choice: Choice, tuned: Tuned, *, probe_seconds: float) -> Advice:
    """The advice after the trial: probe and tuned network on the same pictures, which neither has learnt from."""
    gathered, where = ground.gathered, _held_out(ground)
    if len(gathered.indices("val")):
        by_probe = probabilities(rows_of(ground, where, advice.probe.rungs), choice.head)
    else:
        by_probe = choice.held_out[ground.fold == 0]
    labels = gathered.labels[where]
    trials = (
        Trial(advice.probe, by_probe.argmax(axis=1) == labels, probe_seconds),
        Trial(tuned.grown.strategy, tuned.grown.said["val"].argmax(axis=1) == labels, tuned.seconds),
    )
    weighed = weigh(advice, trials, gathered.groups[where])
    favour = "These pictures also chose the tuned network's epoch and head, which favours it a little."
    return replace(weighed, reason=(*weighed.reason, favour))


def _probe(ground: Ground, strategy: Strategy, choice: Choice) -> Grown:
    """The head on the frozen network, as a model."""
    trunk, gathered, head = ground.trunk, ground.gathered, choice.head
    planted = plant(trunk, head, strategy.rungs, gathered.collection.classes)
    rows = rows_of(ground, gathered.indices("test"), strategy.rungs)
    return Grown(
        strategy=strategy,
        words=f"{strategy.words}; {choice.reason}",
        graph=planted.graph,
        tensors=planted.tensors,
        gathered=gathered,
        said={"train": choice.held_out, "test": probabilities(rows, head)},
        history=_search(choice),
        head=trunk.head,
        head_kind=head.kind,
        calibration="none" if head.kind == "logistic" else CALIBRATED,
        arguments=planted.arguments,
        probe=choice.probe,
        record={
            "strength": choice.probe.strength,
            "folds": FOLDS,
            "head": choice.reason,
            "heads": [asdict(trial) for trial in choice.trials],
        },
    )


def _search(choice: Choice) -> bytes:
    """The search for the head's strength, a JSON object a line."""
    lines = (
        json.dumps(
            {"strength": t.strength, "cross_validated_log_loss": t.log_loss, "cross_validated_accuracy": t.accuracy}
        )
        for t in choice.probe.trials
    )
    return ("\n".join(lines) + "\n").encode()


def _finish(
    grown: Grown,
    advice: Advice | None,
    ground: Ground,
    folder: Path,
    partial: Path,
    out: Path,
    settings: TrainSettings,
    clock: Clock,
) -> Manifest:
    """Score on the test pictures, write the report and the folder `partial`, and seal it."""
    gathered, trunk, preprocess = grown.gathered, ground.trunk, ground.preprocess
    with clock.step("test"):
        scores, unleaked = test_scores(gathered, grown.said["test"])
    known = judged(gathered, {part: rows for part, rows in grown.said.items() if len(rows)})
    with clock.step("model"):
        pictures = golden(gathered, preprocess, grown.graph, grown.said["test"])
    record = {
        **run_record(ground.device, *(() if grown.curves is None else ("torch",))),
        "trunk": trunk.key,
        "stages": list(trunk.stages),
        "settings": {
            "strategy": settings.strategy, "fit": settings.fit, "test_fraction": settings.test_fraction,
            "class_weights": settings.class_weights, "seed": settings.seed, "on_bad_image": settings.on_bad_image,
            "budget": settings.training.budget if settings.training else None,
        },
        **({} if advice is None else {"advice": advice.to_json()}),
        **grown.record,
    }  # fmt: skip
    limit = gathered.features.limit
    with clock.step("report"):
        html = page(
            known, scores, unleaked, strategy=grown.words, probe=grown.probe, record=record, seconds=clock.seconds,
            limit=limit, network=ground.source.network, preprocess=preprocess, title=out.name, history=grown.curves,
            advice=advice,
        )  # fmt: skip
    with clock.step("writing"):
        others = {"report.html": html.encode(), "samples.csv": samples_csv(known), HISTORY: grown.history}
        files = save(
            partial, tensors=grown.tensors, graph=grown.graph, golden=pictures, others={**others, **grown.others}
        )
    manifest = Manifest(
        schema=SCHEMA, graft=version("graft"), network=ground.source.network, builder=trunk.builder,
        architecture=trunk.architecture, arguments=grown.arguments, head=grown.head,
        head_kind=cast(Any, grown.head_kind), classes=gathered.collection.classes,
        preprocess=preprocess_fields(preprocess), calibration={"method": grown.calibration},
        strategy=grown.strategy.kind, seed=settings.seed, data=data_record(gathered, folder), test=to_json(scores),
        test_without_leaks=to_json(unleaked) if unleaked else None, looks=1,
        seconds={**clock.seconds, "total": clock.total(), "limit": limit}, record=record, files=files,
    )  # fmt: skip
    seal(partial, manifest)
    return manifest
