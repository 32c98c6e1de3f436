"""On which stages should a probe stand? Rules that choose by cross-validation, and what their choices are worth.

python -m benchmarks.stages run [SET] [--draws N]        (4 draws of five sets: some minutes on two cores)
python -m benchmarks.stages table                        what is kept, as Markdown

Sets are those of strategy_sets.py without their test pictures, which have no say in a rule. Each draw takes 10, 50 or
200 pictures of each class from one half of the training pictures, probes every stage and several together as `graft
advise` does, and scores every probe, a logistic regression, on the other half. Near-duplicates stay in one half.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.machine import RESULTS, keep
from benchmarks.splits import write_split
from benchmarks.strategy_sets import SETS, make
from graft.data.sources.opened import opened
from graft.data.split import assign_folds
from graft.features.likeness import Likeness
from graft.features.trunk import TOP
from graft.heads.probe import fit_probe
from graft.heads.stage_probes import StageScore, best, probe_stages, steadiest
from graft.progress import silent
from graft.run.advice import likeness_of
from graft.run.prepare import Pretrained, prepare
from graft.run.transfer import FOLDS, Transfer, transfer_of
from graft.run.workplace import workplace_of
from graft.strategy.advice import cell, expected_probe
from graft.training.recipe.settings import Recipe

BUILD: Final = Path(__file__).parent.parent / "build" / "strategy"
SIZES: Final = (10, 50, 200)
Rungs = tuple[str, ...]


def _table_first(scores: Sequence[StageScore], expected: Rungs) -> StageScore:
    """The table's choice, then the top, single stages and several: the first that none beats beyond noise."""
    judge = max(scores, key=lambda score: score.accuracy)
    order = sorted(scores, key=lambda s: (s.reads != expected, len(s.reads), s.reads != TOP, s.log_loss))
    return next(score for score in order if not judge.beyond_noise(score))


RULES: Final[dict[str, Callable[[Sequence[StageScore], Rungs], StageScore]]] = {
    "the top": lambda scores, _: next(score for score in scores if score.reads == TOP),
    "the table's choice, unless beaten beyond noise": _table_first,
    "the least log loss": lambda scores, _: best(scores),
    "several, unless beaten beyond noise": steadiest,
}
"""By name: of a draw's scores and the stages that the table names, the score whose stages are taken."""
BEST: Final = "the best on the other half"


def measure(name: str, draws: int) -> None:
    """Every size of a set; each result is kept as soon as it is there."""
    labelled, split = make(name, BUILD), BUILD / f"{name}-full.csv"
    write_split(split, labelled.cut(None))
    with tempfile.TemporaryDirectory() as work:
        settings = Recipe(strategy="probe", csv=split, cache=Path(work))
        with opened(labelled.folder, Path(work), csv=split, follow_links=False, progress=silent) as collection:
            place = workplace_of(settings, Path(work) / "none")
            dataset = prepare(labelled.folder, collection, settings, place)
            assert isinstance(dataset.read, Pretrained)
            transfer = transfer_of(dataset, dataset.read, settings, place)
            like = likeness_of(transfer)
            for size in SIZES:
                runs = [_draw(transfer, like, size, seed) for seed in range(draws)]
                means = {rule: round(100 * statistics.mean(run[rule][1] for run in runs), 2) for rule in runs[0]}
                taken = [{rule: stage for rule, (stage, _) in run.items()} for run in runs]
                keep("stages", {f"{name} {size}": {"draws": draws, "accuracy": means, "taken": taken}})


def _draw(transfer: Transfer, like: Likeness, size: int, seed: int) -> dict[str, tuple[str, float]]:
    """By rule, which stages it takes, and how often the probe there is right on the other half."""
    dataset, trunk = transfer.dataset, transfer.trunk
    classes, train = len(dataset.classes), dataset.indices("train")
    draw = np.random.default_rng(seed)
    in_first = draw.random(int(dataset.groups.max()) + 1) < 0.5
    first, other = (train[in_first[dataset.groups[train]] == half] for half in (True, False))
    of_each = [draw.permutation(first[dataset.labels[first] == label])[:size] for label in range(classes)]
    which = np.sort(np.concatenate(of_each))
    labels, groups = dataset.labels[which], dataset.groups[which]
    fold = assign_folds(labels, groups, dataset.features.key_array()[which], folds=FOLDS, seed=seed)
    scores = probe_stages(dataset.features, trunk, which, labels, groups, fold, num_classes=classes)

    def on_the_other_half(score: StageScore) -> float:
        columns = tuple(trunk.columns(output) for output in score.reads)
        probe = fit_probe(dataset.features.rows(which, columns), labels, fold, num_classes=classes)
        x = dataset.features.rows(other, columns).read(slice(None))
        return float(((x @ probe.weight.T + probe.bias).argmax(axis=1) == dataset.labels[other]).mean())

    found = {score.stage: on_the_other_half(score) for score in scores}
    expected = expected_probe(cell(len(which), like).column, scores).reads
    taken = {rule: choose(scores, expected).stage for rule, choose in RULES.items()}
    taken[BEST] = max(found, key=found.__getitem__)
    return {rule: (stage, found[stage]) for rule, stage in taken.items()}


def table() -> str:
    """A row for each set and size, and the means over the sets."""
    kept: dict[str, Any] = json.loads((RESULTS / "stages.json").read_text())
    rules = (*RULES, BEST)
    lines = [f"| set | a class | {' | '.join(rules)} |", f"|{' --- |' * (2 + len(rules))}"]
    rows = {tuple(name.split()): run["accuracy"] for name, run in kept.items()}
    for (name, size), accuracy in rows.items():
        lines.append(f"| {name} | {size} | {' | '.join(f'{accuracy[rule]:.1f}' for rule in rules)} |")
    for size in map(str, SIZES):
        means = [statistics.mean(row[rule] for (_, each), row in rows.items() if each == size) for rule in rules]
        lines.append(f"| mean | {size} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.stages", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("set", nargs="?", choices=list(SETS), help="all five, if left out")
    run.add_argument("--draws", type=int, default=4)
    commands.add_parser("table")
    asked = parser.parse_args()
    if asked.command == "run":
        for name in [asked.set] if asked.set else SETS:
            measure(name, asked.draws)
    print(table())


if __name__ == "__main__":
    main()
