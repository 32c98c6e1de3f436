"""The three heads of a probe on one split after another: test accuracy, log loss, seconds, and which one is chosen.

python -m benchmarks.heads [seeds] [set …]        (5 seeds of every set: about three minutes on two cores, once the
features are known; the first run makes them: a minute and a half)

Sets: trashnet whole; 200 drawings a class of quickdraw, 1,500 pictures of fashion-mnist, 1,200 X-rays of pneumonia.
A quarter of each is the test split, drawn for each seed with the classes' shares kept; the rest is cut in five folds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import StratifiedKFold, train_test_split
from threadpoolctl import threadpool_limits

from benchmarks.machine import DATA, keep
from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess, fit_picture
from graft.data.sources.scan import scan
from graft.evaluate.calibration import log_loss
from graft.features.rows import Rows
from graft.features.trunk import FEATURES, open_trunk, runner
from graft.heads.choose import choose_head
from graft.heads.head import Head
from graft.heads.lda import fit_lda
from graft.heads.rbf import fit_rbf
from graft.models.weights import find_source
from graft.runtime.stream import ordered_map

FOLDS = 5
CACHE = Path(tempfile.gettempdir()) / "graft-benchmark-heads"
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


def main() -> None:
    """Features of each set, once; then each seed's splits and heads."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    results = {}
    for name in sys.argv[2:] or SETS:
        x, labels = _features(name)
        runs = [_run(x, labels, seed) for seed in range(seeds)]
        results[name] = {"samples": len(x), "classes": int(labels.max()) + 1, "seeds": seeds, **_summary(runs)}
    keep("heads", results)


def _run(x: Floats, labels: Labels, seed: int) -> dict[str, Any]:
    """One split: by kind of head, its accuracy and log loss on the test and its seconds; the choice and its reason."""
    train, test = train_test_split(np.arange(len(x)), test_size=0.25, stratify=labels, random_state=seed)
    fold = np.empty(len(train), np.int64)
    for number, (_, held) in enumerate(
        StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(train, labels[train])
    ):
        fold[held] = number
    known, own, classes = x[train], labels[train], int(labels.max()) + 1
    rows = Rows(len(known), known.shape[1], lambda part: known[part])
    choice = choose_head(rows, own, fold, num_classes=classes)
    with threadpool_limits(limits=1, user_api="blas"):
        heads = {
            "logistic": Head("logistic", choice.probe.weight, choice.probe.bias),
            "lda": fit_lda(rows, own, fold, num_classes=classes).head,
            "rbf": fit_rbf(rows, own, fold, num_classes=classes).head,
        }
    scores = {kind: _score(head, x[test], labels[test]) for kind, head in heads.items()}
    seconds = {trial.kind: trial.seconds for trial in choice.trials}
    return {"scores": scores, "seconds": seconds, "chosen": choice.head.kind, "reason": choice.reason}


def _score(head: Head, x: Floats, labels: Labels) -> tuple[float, float]:
    logits = head.logits(x)
    return float((logits.argmax(axis=1) == labels).mean()), log_loss(logits, labels)


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    found: dict[str, Any] = {}
    for kind in ("logistic", "lda", "rbf"):
        accuracy, loss = np.array([run["scores"][kind] for run in runs]).T
        seconds = [run["seconds"][kind] for run in runs]
        found[kind] = {
            "test_accuracy": round(float(accuracy.mean()), 4),
            "spread": round(float(accuracy.std(ddof=1)), 4) if len(runs) > 1 else None,
            "test_log_loss": round(float(loss.mean()), 4),
            "seconds": round(float(np.mean(seconds)), 2),
        }
    chosen = [run["scores"][run["chosen"]][0] for run in runs]
    found["chosen"] = {"kinds": [run["chosen"] for run in runs], "test_accuracy": round(float(np.mean(chosen)), 4)}
    return {**found, "reasons": [run["reason"] for run in runs]}


def _features(name: str) -> tuple[Floats, Labels]:
    """Features (N, D) by EfficientNet-Lite0, rounded to float16 as the store has them, and labels; kept in CACHE."""
    file = CACHE / f"{name}.npz"
    if not file.exists():
        trunk = open_trunk(find_source("efficientnet-lite0"), CACHE)
        run, preprocess = runner(trunk, find_source("efficientnet-lite0"), "cpu"), trunk.preprocess("squash")
        pictures, labels = SETS[name]()
        rows = ordered_map(lambda picture: run(picture(preprocess)[None]), pictures)
        x = np.concatenate([row[:, trunk.columns(FEATURES)] for row in rows])
        np.savez(file, x=x.astype(np.float16), labels=labels)
    with np.load(file) as kept:
        return kept["x"].astype(np.float32), kept["labels"]


Picture = Callable[[Preprocess], NDArray[np.uint8]]  # → (S, S, 3)


def _drawn(images: NDArray[np.uint8]) -> list[Picture]:
    """Grey pictures (N, h, w)."""

    def picture(image: NDArray[np.uint8]) -> Picture:
        return lambda preprocess: fit_picture(Image.fromarray(image).convert("RGB"), preprocess)

    return [picture(image) for image in images]


def _trashnet() -> tuple[list[Picture], Labels]:
    samples = scan(DATA / "trashnet").samples

    def picture(path: str) -> Picture:
        return lambda preprocess: fit_picture(decode(read_picture(path), name=path).image, preprocess)

    return [picture(s.path) for s in samples], np.array([s.label for s in samples], np.int64)


def _quickdraw() -> tuple[list[Picture], Labels]:
    files = sorted((DATA / "quickdraw").glob("*.npy"))
    images = np.concatenate([255 - np.load(file)[:200].reshape(-1, 28, 28) for file in files])
    return _drawn(images), np.repeat(np.arange(len(files)), 200)


def _fashion() -> tuple[list[Picture], Labels]:
    with np.load(DATA / "fashion-mnist" / "fashion_mnist.npz") as arrays:
        return _drawn(arrays["x_train"][:1500]), arrays["y_train"][:1500].astype(np.int64)


def _pneumonia() -> tuple[list[Picture], Labels]:
    with np.load(DATA / "pneumonia" / "pneumoniamnist.npz") as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"].ravel().astype(np.int64)
    some = np.linspace(0, len(images) - 1, 1200).astype(np.int64)
    return _drawn(images[some]), labels[some]


SETS: dict[str, Callable[[], tuple[list[Picture], Labels]]] = {
    "trashnet": _trashnet, "quickdraw": _quickdraw, "fashion-mnist": _fashion, "pneumonia": _pneumonia,
}  # fmt: skip


if __name__ == "__main__":
    main()
