"""The head at scale: 1,000 classes, 100,000 samples, features read from the store; seconds and peak memory.

python -m benchmarks.head [samples] [classes]        (100,000 and 1,000: about five minutes on two cores)

The features are synthetic: a random centre for each class, with noise that leaves a good part of the classes confused.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import keep
from graft.store.table import Store
from graft.transfer.logistic import Rows
from graft.transfer.probe import fit_probe

WIDTH = 1280


def main() -> None:
    """Fill a store, fit the head from it, and keep what it took."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    classes = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, WIDTH)).astype(np.float32)
    labels = np.arange(samples) % classes
    with tempfile.TemporaryDirectory() as folder:
        table = Store(Path(folder)).table("features", np.dtype(("<f2", (WIDTH,))))
        keys = [int(i).to_bytes(16, "little") for i in range(samples)]
        for start in range(0, samples, 1024):
            part = slice(start, start + 1024)
            noise = rng.normal(scale=6.0, size=(len(labels[part]), WIDTH)).astype(np.float32)
            table.append(keys[part], (centres[labels[part]] + noise).astype(np.float16))
        places = table.locate(keys)
        before = _peak_mib()
        rows = Rows(samples, WIDTH, lambda part: table.gather(places[part]).astype(np.float32))
        started = time.perf_counter()
        probe = fit_probe(rows, labels, (np.arange(samples) // classes) % 5, num_classes=classes)
        seconds = time.perf_counter() - started
        right = 0
        for start in range(0, samples, 4096):
            x = rows.read(slice(start, start + 4096))
            right += int(((x @ probe.weight.T + probe.bias).argmax(axis=1) == labels[start : start + 4096]).sum())
    result = {
        "samples": samples,
        "classes": classes,
        "seconds": round(seconds, 1),
        "peak_mib": round(_peak_mib()),
        "peak_before_mib": round(before),
        "strength": probe.strength,
        "held_out_accuracy_of_search": [round(trial.accuracy, 4) for trial in probe.trials],
        "training_accuracy": round(right / samples, 4),
    }
    keep("head", {f"{samples}x{classes}": result})


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
