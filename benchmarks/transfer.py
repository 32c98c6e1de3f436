"""graft and its peers fine-tune one network on one split of TrashNet: accuracy against seconds, side by side.

python -m benchmarks.transfer all [--missing]               every way, three seeds, in turns    (hours on two cores)
python -m benchmarks.transfer run WAY SEED [--limit N]      one measurement; --limit only tries it
python -m benchmarks.transfer table                         what is kept in results/transfer.json, as Markdown
python -m benchmarks.transfer draw                          docs/pictures/transfer.svg, of the processor with most runs

The peers run in the Python that the environment variable PEERS names (see benchmarks/README.md), else in this one.
Every run is a whole process from its start: imports, reading, decoding and training; graft begins with an empty cache
(`later`: with the exported network in it), and ends with the sealed model and its report, the peers with the last
epoch. They look at the test pictures when the clock has stopped; graft looks once, while it runs. Each measurement is
kept as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import DATA, RESULTS, keep, processor
from benchmarks.splits import digest, first_of_each, graft_split, read_split, write_split
from benchmarks.whole_run import RunFailedError, Trained, graft_train, run
from graft.features.trunk import open_trunk
from graft.models.weights import find_source

TRASHNET: Final = DATA / "trashnet"
SEEDS: Final = (0, 1, 2)
NETWORK: Final = "efficientnet-lite0"
ROOT: Final = Path(__file__).parent.parent
BUILD: Final = ROOT / "build" / "transfer"
PICTURE: Final = ROOT / "docs" / "pictures" / "transfer.svg"


@dataclass(frozen=True)
class Way:
    """One way to learn. arguments: of `graft train`, empty for a peer. epochs: of a peer, all layers trained.

    exported: whether graft finds the network exported in its cache, as in every run after the first; else that is
    empty. keeps: which epoch a peer ends with, the last or the best by validation.
    """

    name: str
    label: str
    colour: str
    arguments: tuple[str, ...] = ()
    exported: bool = False
    epochs: int = 0
    keeps: Literal["last", "best"] = "last"


WAYS: Final = (
    Way("top", "graft: probe, top features", "#e69f00", ("--strategy", "probe", "--probe-on", "top")),
    Way(
        "later",
        "graft: probe, top features, a later run",
        "#f0e442",
        ("--strategy", "probe", "--probe-on", "top"),
        exported=True,
    ),
    Way("probe", "graft: probe", "#56b4e9", ("--strategy", "probe")),
    Way("finetune", "graft: fine-tune", "#0072b2", ("--strategy", "finetune")),
    Way("timm", "timm's script, 4 epochs", "#009e73", epochs=4, keeps="best"),
    Way("fastai", "fastai, fine_tune(4)", "#d55e00", epochs=4),
    Way("plain", "PyTorch's tutorial, 4 epochs", "#cc79a7", epochs=4, keeps="best"),
)


def find(name: str) -> Way:
    """The way of that name."""
    found = next((way for way in WAYS if way.name == name), None)
    if found is None:
        sys.exit(f"no way is called {name!r}; there are {', '.join(way.name for way in WAYS)}")
    return found


def measure(way: Way, seed: int, *, limit: int | None = None) -> dict[str, Any]:
    """Run one way with one seed; limit: pictures of each class and part, for two epochs, to try it out."""
    split = split_of(seed, limit)
    load = os.getloadavg()[0]
    if way.arguments:
        with tempfile.TemporaryDirectory() as cache:
            if way.exported:
                open_trunk(find_source(NETWORK), Path(cache))
            found = _of_graft(graft_train(TRASHNET, split, ("--seed", str(seed), *way.arguments), cache=Path(cache)))
    else:
        found = _of_peer(way if limit is None else replace(way, epochs=2), seed, split)
    return {"way": way.name, "seed": seed, "split": digest(split), "load_average_before": round(load, 2), **found}


def split_of(seed: int, limit: int | None = None) -> Path:
    """The file of a seed's split, written where it is missing."""
    file = BUILD / f"seed{seed}.csv"
    if not file.exists():
        with tempfile.TemporaryDirectory() as cache:
            write_split(file, graft_split(TRASHNET, Path(cache), seed=seed))
    if limit is None:
        return file
    short = BUILD / f"seed{seed}-{limit}.csv"
    write_split(short, first_of_each(read_split(file), limit))
    return short


def _of_graft(trained: Trained) -> dict[str, Any]:
    cost, test = trained.cost, trained.manifest["test"]
    points = [{"seconds": round(seconds, 2), "validation": score} for seconds, score in trained.validation]
    return {
        "seconds": round(cost.seconds, 2),
        "processor_seconds": round(cost.processor_seconds, 2),
        "peak_mib": round(cost.peak_mib),
        "cache_mib": round(trained.disk_mib),
        "test": trained.test_accuracy,
        "test_interval": [test["top1"]["low"], test["top1"]["high"]],
        "points": points,
        "strategy": trained.manifest["strategy"],
        "steps_seconds": {step: round(seconds, 2) for step, seconds in trained.manifest["seconds"].items()},
    }


def _of_peer(way: Way, seed: int, split: Path) -> dict[str, Any]:
    python = os.environ.get("PEERS") or sys.executable
    command = [python, "-m", "benchmarks.transfer_peers", way.name, str(seed), str(TRASHNET), str(split),
               str(_weights()), str(way.epochs)]  # fmt: skip
    cost, printed = run(command, path=os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    said = json.loads(printed.strip().splitlines()[-1])
    points = [
        {
            "seconds": round(epoch["clock"] - cost.began, 2),
            "processor_seconds": round(epoch["processor_seconds"], 2),
            "validation": epoch["validation"],
            "test": epoch["test"],
        }
        for epoch in said["epochs"]
    ]
    last = points[-1]
    kept = max(points, key=lambda point: point["validation"]) if way.keeps == "best" else last
    return {
        "seconds": last["seconds"],
        "processor_seconds": last["processor_seconds"],
        "peak_mib": round(cost.peak_mib),
        "test": kept["test"],
        "points": points,
        "epochs": way.epochs,
        "peer_versions": said["versions"],
    }


def _weights() -> Path:
    """The weights that come with graft, as a file with timm's names: the packaged tensors stand in timm's order."""
    import timm
    from safetensors.torch import save_file

    from benchmarks.transfer_peers import ARCHITECTURE
    from graft.models.build import read_weights

    file = BUILD / f"{ARCHITECTURE}.safetensors"
    if not file.exists():
        packaged = find_source(NETWORK).file
        assert packaged is not None
        names = timm.create_model(ARCHITECTURE).state_dict()
        tensors = (tensor.contiguous() for tensor in read_weights(packaged).values())
        partial = file.with_suffix(".tmp")
        save_file(dict(zip(names, tensors, strict=True)), partial)
        partial.rename(file)
    return file


Runs = dict[str, list[dict[str, Any]]]
"""By way, its runs on one kind of processor, in the order of their seeds."""


def kept_runs() -> dict[str, Runs]:
    """The runs in results/transfer.json by the instructions of their processors, those with most runs first."""
    file = RESULTS / "transfer.json"
    runs = list(json.loads(file.read_text()).values()) if file.exists() else []
    kinds = Counter(map(_kind, runs))
    return {
        kind: {
            way.name: sorted(
                (run for run in runs if run["way"] == way.name and _kind(run) == kind),
                key=lambda run: int(run["seed"]),
            )
            for way in WAYS
        }
        for kind, _ in kinds.most_common()
    }


def _kind(run: dict[str, Any]) -> str:
    return str(run["machine"].get("instructions", "instructions that were not recorded"))


def tables(kept: dict[str, Runs]) -> str:
    """A table for each kind of processor: seconds of one say nothing about those of another."""
    return "\n\n".join(f"Processors with {kind}:\n\n{table(runs)}" for kind, runs in kept.items())


def table(runs: Runs) -> str:
    """The runs as Markdown: a row for each way; then how much sooner graft is where a peer ends."""
    lines = [
        "| | seeds | test accuracy, % | seconds | processor seconds | memory, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        if mine := runs[way.name]:
            columns = (
                _spread([100 * run["test"] for run in mine], 1), _spread([run["seconds"] for run in mine], 0),
                _spread([run["processor_seconds"] for run in mine], 0), _spread([run["peak_mib"] for run in mine], 0),
            )  # fmt: skip
            lines.append(f"| {way.label} | {len(mine)} | {' | '.join(columns)} |")
    return "\n".join([*lines, "", *_ratios(runs)])


def _ratios(runs: Runs) -> Iterable[str]:
    """For each peer, the quickest graft that is as good on the mean, and how much sooner it is there."""
    for peer in WAYS:
        if peer.arguments or not (mine := runs[peer.name]):
            continue
        goal = statistics.mean(run["test"] for run in mine)
        needed = statistics.mean(_seconds_to_its_own(run) for run in mine)
        there = [_quickest(runs, goal, exported=exported) for exported in (False, True)]
        ends = [
            f"{way.label} is there after {seconds:.0f} s, {needed / seconds:.1f} times sooner"
            for way, seconds in filter(None, there)
        ]
        said = "; ".join(ends) or "no way of graft is there"
        yield f"- {peer.label}: {100 * goal:.1f} % after {needed:.0f} s; {said}."


def _quickest(runs: Runs, goal: float, *, exported: bool) -> tuple[Way, float] | None:
    """The way of graft whose mean accuracy is `goal` or more, 0–1, in the fewest seconds, and their mean."""
    able = [
        (way, statistics.mean(run["seconds"] for run in mine))
        for way in WAYS
        if way.arguments and way.exported == exported and (mine := runs[way.name])
        and statistics.mean(run["test"] for run in mine) >= goal
    ]  # fmt: skip
    return min(able, key=lambda each: each[1], default=None)


def _seconds_to_its_own(run: dict[str, Any]) -> float:
    """When a peer's run was first as good on the test pictures as the epoch it ends with: before its end, maybe."""
    return next(float(point["seconds"]) for point in run["points"] if point["test"] >= run["test"])


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def draw(runs: Runs) -> None:
    """Validation and test accuracy against seconds: the mean over the seeds, and from lowest to highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, part in zip(panels, ("validation", "test"), strict=True):
        for way in WAYS:
            mine = runs[way.name]
            curves = [[p for p in run["points"] if part in p] for run in mine]
            if mine and all(curves):
                seconds, low, mean, high = _band(curves, part)
                axes.plot(seconds, mean, color=way.colour)
                axes.fill_between(seconds, low, high, color=way.colour, alpha=0.2, lw=0)
            if mine and part == "test":
                _mark_ends(axes, way, mine)
        axes.set(xscale="log", xlabel="seconds since the start of the process", title=part)
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("accuracy, %")
    figure.suptitle("TrashNet, 6 classes, EfficientNet-Lite0 at 224²: the same weights and splits", fontsize=11)
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(PICTURE, metadata={"Date": None})


def _mark_ends(axes: Any, way: Way, runs: list[dict[str, Any]]) -> None:
    """A mark where a way ends on the mean, with whiskers from lowest to highest; the legend has it."""
    seconds, test = ([run[what] for run in runs] for what in ("seconds", "test"))
    centre, height = statistics.mean(seconds), 100 * statistics.mean(test)
    axes.errorbar(
        centre, height, marker="o" if way.arguments else "s", color=way.colour, capsize=2, label=way.label,
        xerr=[[centre - min(seconds)], [max(seconds) - centre]],
        yerr=[[height - 100 * min(test)], [100 * max(test) - height]],
    )  # fmt: skip


def _band(curves: list[list[dict[str, float]]], part: str) -> tuple[NDArray[np.float64], ...]:
    """Seconds, and the lowest, mean and highest percentage there, where all seeds' curves are known."""
    first, last = max(curve[0]["seconds"] for curve in curves), min(curve[-1]["seconds"] for curve in curves)
    seconds = np.geomspace(first, max(first, last), 200)
    rows = np.array(
        [np.interp(seconds, [p["seconds"] for p in curve], [100 * p[part] for p in curve]) for curve in curves]
    )  # (seeds, 200)
    return seconds, rows.min(axis=0), rows.mean(axis=0), rows.max(axis=0)


def measure_all(*, missing: bool) -> None:
    """Every way with every seed, in turns, so that a slow hour falls on all. missing: leave out what is kept."""
    failed = []
    for seed in SEEDS:
        for way in WAYS:
            known = kept_runs().get(processor()[1], {}).get(way.name, [])
            if missing and any(run["seed"] == seed for run in known):
                continue
            try:
                keep("transfer", {_key(way, seed): measure(way, seed)})
            except RunFailedError as error:
                failed.append(f"{_key(way, seed)}: {error}")
    print(tables(kept_runs()))
    _draw_most(kept_runs())
    if failed:
        sys.exit("\n".join(["these runs failed:", *failed]))


def _draw_most(kept: dict[str, Runs]) -> None:
    """The picture of the kind of processor that most runs were made on."""
    if kept:
        draw(next(iter(kept.values())))


def _key(way: Way, seed: int) -> str:
    return f"{way.name} seed {seed} on {processor()[1]}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.transfer", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("way", choices=[way.name for way in WAYS])
    one.add_argument("seed", type=int)
    one.add_argument("--limit", type=int, help="pictures of each class and part, two epochs; printed, not kept")
    every = commands.add_parser("all")
    every.add_argument("--missing", action="store_true", help="leave out what is kept already")
    commands.add_parser("table")
    commands.add_parser("draw")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended too
    if asked.command == "run":
        try:
            found = measure(find(asked.way), asked.seed, limit=asked.limit)
        except RunFailedError as error:
            sys.exit(f"{_key(find(asked.way), asked.seed)} failed: {error}")
        if asked.limit is None:
            keep("transfer", {_key(find(asked.way), asked.seed): found})
        else:
            print(json.dumps(found, indent=1))
    elif asked.command == "all":
        measure_all(missing=asked.missing)
    elif asked.command == "table":
        print(tables(kept_runs()))
    else:
        _draw_most(kept_runs())


if __name__ == "__main__":
    main()
