"""`graft train` against the least that the machine could take: one decode and one forward pass of every picture.

python -m benchmarks.main_job [speed] [accuracy] [fits] [start] [memory]      (all: about 15 minutes on two cores)

speed     on trashnet, in turns within one run: the limit, a cold run (features unknown, the trunk's ONNX file there), a
          warm run; wall time after imports; medians of five rounds.
accuracy  the probe on trashnet, a fifth held out, five seeds.
fits      the same for each way to fill the square: squash, crop, pad.
start     `graft --help`, `graft predict` of one picture: whole processes, medians of seven.
memory    peak of a whole cold run on trashnet, and on 5,000 and 50,000 generated JPEGs.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import DATA, keep
from graft.data.decode import decode, read_picture
from graft.data.preprocess import FITS, fit_picture
from graft.data.sources.scan import scan
from graft.features.trunk import open_trunk
from graft.jobs import train
from graft.jobs.info import run as info
from graft.models.weights import find_source
from graft.runtime.onnx import OnnxRunner
from graft.runtime.stream import ordered_map
from graft.training.recipe.settings import Recipe

TRASHNET = DATA / "trashnet"
ROUNDS = 5
SEEDS = range(5)


def speed(cache: Path, work: Path) -> dict[str, Any]:
    """The limit, a cold and a warm run, in turns."""
    trunk = open_trunk(find_source("efficientnet-lite0"), cache)
    preprocess, run = trunk.preprocess("squash"), OnnxRunner(trunk.graph)
    paths = [sample.path for sample in scan(TRASHNET).samples]

    def decode_and_run(path: str) -> None:
        picture = decode(read_picture(path), name=path, shortest=preprocess.size)
        run(fit_picture(picture.image, preprocess)[None])

    def limit() -> None:
        for _ in ordered_map(decode_and_run, paths):
            pass

    def fit() -> None:
        train.run(TRASHNET, work / "run", Recipe(strategy="probe", cache=cache), force=True)

    limits, colds, warms, steps = [], [], [], []
    for _ in range(ROUNDS):
        limits.append(_seconds(limit))
        shutil.rmtree(cache / "features", ignore_errors=True)
        colds.append(_seconds(fit))
        steps.append(info(work / "run").seconds)
        warms.append(_seconds(fit))
    return {
        "pictures": len(paths),
        "limit_s": _spread(limits),
        "cold_s": _spread(colds),
        "warm_s": _spread(warms),
        "cold_over_limit": _spread([c / m for c, m in zip(colds, limits, strict=True)]),
        "warm_over_limit": _spread([w / m for w, m in zip(warms, limits, strict=True)]),
        "cold_steps_s": {name: round(statistics.median(s[name] for s in steps), 3) for name in steps[0]},
    }


def accuracy(cache: Path, work: Path) -> dict[str, Any]:
    """Top-1 on the held-out fifth, for each seed."""
    found = []
    for seed in SEEDS:
        manifest = train.run(TRASHNET, work / "run", Recipe(strategy="probe", cache=cache, seed=seed), force=True)
        assert manifest.test is not None
        found.append(100 * manifest.test.top1.value)
    return {
        "top1_percent": [round(value, 2) for value in found],
        "mean": round(statistics.mean(found), 2),
        "standard_deviation": round(statistics.stdev(found), 2),
        "test_pictures": manifest.test.n,
    }


def fits(cache: Path, work: Path) -> dict[str, Any]:
    """Top-1 on the held-out fifth for each way to fill the square, the same splits for all."""
    found: dict[str, Any] = {}
    for fit in FITS:
        values = []
        for seed in SEEDS:
            settings = Recipe(strategy="probe", cache=cache, seed=seed, fit=fit)
            manifest = train.run(TRASHNET, work / "run", settings, force=True)
            assert manifest.test is not None
            values.append(100 * manifest.test.top1.value)
        found[fit] = {"top1_percent": [round(v, 2) for v in values], "mean": round(statistics.mean(values), 2)}
    return found


def start(cache: Path, work: Path) -> dict[str, Any]:
    """Seconds of whole processes."""
    train.run(TRASHNET, work / "run", Recipe(strategy="probe", cache=cache), force=True)
    picture = scan(TRASHNET).samples[0].path
    graft = str(Path(sys.executable).parent / "graft")
    commands = {"help_s": [graft, "--help"], "predict_one_s": [graft, "predict", str(work / "run"), picture]}
    return {
        name: _spread([_seconds(lambda c=c: subprocess.run(c, check=True, capture_output=True)) for _ in range(7)])
        for name, c in commands.items()
    }


def memory(cache: Path, work: Path) -> dict[str, Any]:
    """Peak resident memory of whole cold runs, MiB."""
    found = {"trashnet_mib": _peak(TRASHNET, cache, work)}
    for count in (5_000, 50_000):
        pictures = work / f"generated-{count}"
        _generate(pictures, count)
        found[f"generated_{count}_mib"] = _peak(pictures, cache, work)
        shutil.rmtree(pictures)
    found["50000_over_5000"] = round(found["generated_50000_mib"] / found["generated_5000_mib"], 3)
    return found


def _peak(pictures: Path, cache: Path, work: Path) -> float:
    shutil.rmtree(cache / "features", ignore_errors=True)
    script = (
        "import sys, pathlib; from graft import Recipe; from graft.jobs import train; p = pathlib.Path;"
        "settings = Recipe(strategy='probe', cache=p(sys.argv[3]));"
        "train.run(p(sys.argv[1]), p(sys.argv[2]), settings, force=True);"
        "print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024)"
    )
    command = [sys.executable, "-c", script, str(pictures), str(work / "run"), str(cache)]
    return round(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout), 1)


def _generate(folder: Path, count: int) -> None:
    """Small JPEGs of ten classes: a coloured disc on noise, its hue the class; every file another picture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        label = number % 10
        pixels = rng.integers(0, 120, (96, 96, 3), dtype=np.uint8)
        disc = (x - rng.integers(30, 66)) ** 2 + (y - rng.integers(30, 66)) ** 2 < rng.integers(12, 28) ** 2
        pixels[disc] = rng.integers(0, 256, 3) // 4 + np.array([label * 25 % 192, label * 60 % 192, label * 95 % 192])
        Image.fromarray(pixels).save(folder / str(label) / f"{number}.jpg", quality=80)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}


def main() -> None:
    """Measure the sections named on the command line, or all."""
    sections = {"speed": speed, "accuracy": accuracy, "fits": fits, "start": start, "memory": memory}
    chosen = sys.argv[1:] or list(sections)
    with tempfile.TemporaryDirectory() as folder:
        cache, work = Path(folder) / "cache", Path(folder) / "work"
        work.mkdir()
        open_trunk(find_source("efficientnet-lite0"), cache)
        for name in chosen:
            keep("main_job", {name: sections[name](cache, work)})


if __name__ == "__main__":
    main()
