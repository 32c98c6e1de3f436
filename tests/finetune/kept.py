"""A small network of ours and generated pictures, for tests of kept maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from graft.data.preprocess import Preprocess
from graft.data.sources.scan import Sample
from graft.models.catalog import create
from graft.models.network import Built
from models.drawn import draw_norms, drawn_pictures

SIZE = 32
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PREPROCESS = Preprocess(SIZE, "squash", "bilinear", MEAN, STD)
STAGE = "conv3_x"


def built() -> Built:
    """ResNet-20 for small pictures, 4 classes, in evaluation mode; its batch norms are not fresh ones."""
    network = create("resnet20_cifar", num_classes=4, seed=0)
    draw_norms(network, drawn_pictures((8, 3, SIZE, SIZE)), seed=1)
    return Built(network, {}, SIZE, MEAN, STD, "bilinear")


def pictures(folder: Path, count: int) -> list[Sample]:
    """Smooth coloured blotches with a little noise, PNG, 80×60."""
    folder.mkdir(exist_ok=True)
    samples = []
    for number in range(count):
        drawn = np.random.default_rng(number)
        coarse = Image.fromarray(drawn.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((80, 60), Image.Resampling.BICUBIC), np.float64)
        path = folder / f"{number:03}.png"
        Image.fromarray((smooth + drawn.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)).save(path)
        samples.append(Sample(str(path), number % 4))
    return samples
