"""How far do these weights go on TrashNet? A probe, fine-tuning, and much longer fine-tuning, picture by picture.

python -m benchmarks.ceiling run SEED [SEED ...]        (half an hour a seed on two cores, more on one)
python -m benchmarks.ceiling table                      what is kept in results/ceiling.json, as Markdown

The splits are those of benchmarks.transfer. Only accuracies are kept, so other work may run beside it. The last two
rows of the table are no methods: they know the answers. One takes a seed's best method, the other the best method for
each picture, so that a picture counts as right if any of them is.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import RESULTS, keep
from benchmarks.splits import digest
from benchmarks.transfer import TRASHNET, split_of
from benchmarks.whole_run import graft_train, packed, unpacked
from graft.evaluate.intervals import paired_difference

PROBE: Final = "probe"
METHODS: Final[dict[str, tuple[str, ...]]] = {
    "probe, top features": ("--strategy", "probe", "--probe-on", "top"),
    PROBE: ("--strategy", "probe"),
    "fine-tune, 3 epochs": ("--strategy", "finetune"),
    "fine-tune, 12 epochs": ("--strategy", "finetune", "--epochs", "12"),
    "fine-tune all of it, 12 epochs": ("--strategy", "finetune", "--freeze", "none", "--epochs", "12"),
}

Right = NDArray[np.bool_]
"""(n,) whether each test picture, in the order of their paths, was named rightly."""


def measure(seed: int) -> None:
    """Every method on a seed's split, each kept as soon as it is there; they share a cache."""
    split = split_of(seed)
    with tempfile.TemporaryDirectory() as cache:
        for method, arguments in METHODS.items():
            trained = graft_train(TRASHNET, split, ("--seed", str(seed), *arguments), cache=Path(cache))
            found = {
                "method": method, "seed": seed, "split": digest(split), "test": trained.test_accuracy,
                **packed(trained.right),
            }  # fmt: skip
            keep("ceiling", {f"{method} seed {seed}": found})


def table() -> str:
    """A row for each method: accuracy, and how far it is from the probe on the same pictures, by seed."""
    file = RESULTS / "ceiling.json"
    kept = list(json.loads(file.read_text()).values()) if file.exists() else []
    seeds: dict[int, dict[str, Right]] = {}
    for run in kept:
        seeds.setdefault(run["seed"], {})[run["method"]] = unpacked(run)
    whole = [rights for _, rights in sorted(seeds.items()) if rights.keys() == METHODS.keys()]
    if not whole:
        return "no seed has all methods yet"
    lines = [
        f"| | test accuracy, % of {len(whole)} seeds | points above the probe, by seed |",
        "| --- | --- | --- |",
    ]
    lines += [_line(method, [(rights[method], rights[PROBE]) for rights in whole]) for method in METHODS]
    best = [(max(rights.values(), key=np.mean), rights[PROBE]) for rights in whole]
    any_ = [(np.any(list(rights.values()), axis=0), rights[PROBE]) for rights in whole]
    return "\n".join([*lines, _line("the best of them, by the answers", best), _line("right by any of them", any_)])


def _line(name: str, pairs: Sequence[tuple[Right, Right]]) -> str:
    """Of a method's right answers and the probe's, for each seed."""
    scores = [100 * float(right.mean()) for right, _ in pairs]
    spread = f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}" if scores[1:] else f"{scores[0]:.1f}"
    above = []
    for right, probe in pairs:
        difference = paired_difference(right, probe)
        above.append(f"{100 * difference.value:+.1f} ({100 * difference.low:.1f} to {100 * difference.high:.1f})")
    return f"| {name} | {spread} | {'; '.join(above)} |"


def main() -> None:
    """Measure and show."""
    if sys.argv[1:2] == ["run"] and sys.argv[2:]:
        for seed in map(int, sys.argv[2:]):
            measure(seed)
    elif sys.argv[1:] != ["table"]:
        sys.exit("give run with seeds, or table")
    print(table())


if __name__ == "__main__":
    main()
