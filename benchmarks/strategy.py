"""Does `graft train` pick the strategy that is best? Every strategy tried on five sets, full and cut.

python -m benchmarks.strategy all [--missing]                                  every set and size  (hours on two cores)
python -m benchmarks.strategy run SET [--sizes SIZE …] [--only STRATEGY …]     one set; sizes: 10, 50, 200 a class, full
python -m benchmarks.strategy table                                            what is kept, as Markdown

Sets are those of strategy_sets.py. Every run is a whole `graft train`, seed 0, on the same training and test pictures;
"picked" is the run that is told no strategy. The runs of a set share a cache, but for those from fresh weights, whose
time is bounded. Each result is kept as soon as it is there. Differences are paired, picture by picture, with 95 %
intervals (Tango, Stat. Med. 17, 1998).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import RESULTS, keep
from benchmarks.splits import digest, write_split
from benchmarks.strategy_sets import SETS, make
from benchmarks.whole_run import RunFailedError, graft_train, packed, unpacked
from graft.evaluate.intervals import paired_difference, proportion

BUILD: Final = Path(__file__).parent.parent / "build" / "strategy"
SIZES: Final = {"10": 10, "50": 50, "200": 200, "full": None}
PICKED: Final = "picked"
STRATEGIES: Final[dict[str, tuple[str, ...]]] = {
    "probe": ("--strategy", "probe"),
    "finetune": ("--strategy", "finetune"),
    "finetune all": ("--strategy", "finetune", "--freeze", "none"),
    "scratch": ("--strategy", "scratch", "--size", "96", "--budget", "3m", "--no-gate"),
    PICKED: (),
}
"""Strategy → what `graft train` is told. From fresh weights: three minutes, and pictures of 96², for more epochs."""

NEAR: Final = 0.01  # of accuracy: what the strategy picked may be below the best tried


def measure(name: str, size: str, strategy: str) -> dict[str, Any]:
    """One `graft train`: its score, what each test picture came to, and what it cost; or why it was refused."""
    labelled = make(name, BUILD)
    split = BUILD / f"{name}-{size}.csv"
    pictures = labelled.cut(SIZES[size])
    write_split(split, pictures)
    found: dict[str, Any] = {
        "set": name, "size": size, "strategy": strategy, "split": digest(split),
        "train": sum(picture.part == "train" for picture in pictures),
    }  # fmt: skip
    try:
        cache = None if strategy == "scratch" else BUILD / "cache" / name
        trained = graft_train(labelled.folder, split, STRATEGIES[strategy], cache=cache)
    except RunFailedError as error:
        return {**found, "refused": str(error)}
    return {
        **found,
        "became": trained.manifest["strategy"],
        "test": trained.test_accuracy,
        **packed(trained.right),
    }


def kept_runs() -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """By set and size, the runs in results/strategy.json by strategy."""
    file = RESULTS / "strategy.json"
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for run in json.loads(file.read_text()).values() if file.exists() else []:
        found.setdefault((run["set"], run["size"]), {})[run["strategy"]] = run
    return found


def table(runs: dict[tuple[str, str], dict[str, dict[str, Any]]]) -> str:
    """A row for each set and size: accuracies with intervals, the one picked, and how far from the best tried."""
    tried = [strategy for strategy in STRATEGIES if strategy != PICKED]
    lines = [
        f"| set | a class | {' | '.join(tried)} | picked | below the best, points | within {100 * NEAR:.0f} |",
        f"|{' --- |' * (len(tried) + 5)}",
    ]
    near: dict[str, list[bool]] = {}
    for name in SETS:
        for size in SIZES:
            here = runs.get((name, size), {})
            if not here:
                continue
            columns = [_score(here.get(strategy)) for strategy in tried]
            below, is_near = _below_best(here)
            if is_near is not None:
                near.setdefault(name, []).append(is_near)
            picked = here.get(PICKED, {})
            said = f"{picked['became']}: {_score(picked)}" if "became" in picked else _score(picked or None)
            verdict = "" if is_near is None else "yes" if is_near else "no"
            lines.append(f"| {name} | {size} | {' | '.join(columns)} | {said} | {below} | {verdict} |")
    cells = [each for verdicts in near.values() for each in verdicts]
    whole = sum(map(all, near.values()))
    summary = (
        f"Within {100 * NEAR:.0f} point of the best tried: {sum(cells)} of {len(cells)} sets and sizes; "
        f"in every size of {whole} of {len(near)} sets."
    )
    return "\n".join([*lines, "", summary])


def _score(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    if "refused" in run:
        return "refused"
    return proportion(int(unpacked(run).sum()), run["n"]).percent()


def _below_best(here: dict[str, dict[str, Any]]) -> tuple[str, bool | None]:
    """How far the picked run is below the best of the tried, in points with the interval; None without both."""
    picked = here.get(PICKED)
    tried = [run for strategy, run in here.items() if strategy != PICKED and "test" in run]
    if picked is None or "test" not in picked or not tried:
        return "", None
    best = max(tried, key=lambda run: run["test"])
    if best["split"] != picked["split"]:
        return "of another split: measure again", None
    difference = paired_difference(unpacked(best), unpacked(picked))
    text = f"{100 * difference.value:.1f} ({100 * difference.low:.1f} to {100 * difference.high:.1f})"
    return text, difference.value <= NEAR


def measure_some(names: list[str], sizes: list[str], strategies: list[str], *, missing: bool) -> None:
    """Measure these and keep each result. missing: leave out what is kept already."""
    for name in names:
        for size in sizes:
            for strategy in strategies:
                if missing and strategy in kept_runs().get((name, size), {}):
                    continue
                keep("strategy", {f"{name} {size} {strategy}": measure(name, size, strategy)})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.strategy", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("set", choices=SETS)
    one.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    one.add_argument("--only", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    every = commands.add_parser("all")
    every.add_argument("--missing", action="store_true", help="leave out what is kept already")
    commands.add_parser("table")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended too
    if asked.command == "run":
        measure_some([asked.set], asked.sizes, asked.only, missing=False)
    elif asked.command == "all":
        measure_some(list(SETS), list(SIZES), list(STRATEGIES), missing=asked.missing)
    print(table(kept_runs()))


if __name__ == "__main__":
    main()
