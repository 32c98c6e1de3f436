"""The head at scale: 1,000 classes, 100,000 samples, features read from the store; seconds and peak memory.

python -m benchmarks.head [samples] [classes]        (100,000 and 1,000: about five minutes on two cores)

The features are drawn from real ones: drawn_features.py.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.drawn_features import stored
from benchmarks.machine import keep
from benchmarks.whole_run import peak_mib
from graft.heads.probe import fit_probe


def main() -> None:
    """Fill a store, fit the head from it, and keep what it took."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    classes = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    with tempfile.TemporaryDirectory() as folder:
        rows, labels, draw = stored(Path(folder), samples, classes)
        before = peak_mib(os.getpid())
        started = time.perf_counter()
        probe = fit_probe(rows, labels, (np.arange(samples) // classes) % 5, num_classes=classes)
        seconds = time.perf_counter() - started
    fresh = np.arange(10_000) % classes
    right = ((draw(fresh) @ probe.weight.T + probe.bias).argmax(axis=1) == fresh).mean()
    result = {
        "samples": samples,
        "classes": classes,
        "seconds": round(seconds, 1),
        "peak_mib": round(peak_mib(os.getpid())),
        "peak_before_mib": round(before),
        "strength": probe.strength,
        "trials": {trial.strength: [round(trial.log_loss, 3), round(trial.accuracy, 3)] for trial in probe.trials},
        "accuracy_on_fresh_samples": round(float(right), 4),
    }
    keep("head", {f"{samples}x{classes}": result})


if __name__ == "__main__":
    main()
