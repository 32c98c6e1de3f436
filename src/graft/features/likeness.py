"""How like the source's pictures a set is, as the pretrained network itself sees it.

The network's own last layer, trained on the source (ImageNet), gives each picture a distribution over the source's
classes. Pictures such as it was trained on are told apart by it: two of them get distributions that hardly overlap.
Pictures of another kind all look alike to it (cells under a microscope are all the same odd thing), or like nothing in
particular (X-rays are a little of everything), and either way the distributions of two of them overlap. The measure is
the mean squared Hellinger distance, 1 − Σₖ √(pₖqₖ), of two pictures of different classes: 0 where the source's classes
say nothing about these, 1 where no two pictures share a source class.

Measured with EfficientNet-Lite0 on 100–120 pictures of each set, any two of them: ImageNet 0.90, COCO 0.75, photos of
rubbish 0.62, small grey photos of clothes 0.48, drawings 0.27, X-rays 0.24, grey digits 0.21, blood cells 0.19.
How sure the last layer is, how large its largest logit is, and how long the features are put the cells before the
photos of rubbish: it takes all of them, with confidence, for one thing.

No distance to the statistics that batch normalisation keeps is used: many networks keep none, and the layers' running
moments are those of maps, not of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from graft.evaluate.calibration import softmax
from graft.features.rows import Floats
from graft.features.trunk import Trunk

Word = Literal["like", "in between", "unlike"]

LIKE_FROM: Final = 0.55  # between photos of rubbish and grey photos of clothes
UNLIKE_BELOW: Final = 0.35  # between grey photos of clothes and drawings
SAMPLE: Final = 512  # pictures: their pairs are 130,000
_RESAMPLES: Final = 1000


@dataclass(frozen=True)
class Likeness:
    """How like the source's pictures these are: 0 (not at all) to 1, with a 95 % interval. pictures: looked at."""

    value: float
    low: float
    high: float
    pictures: int

    @property
    def word(self) -> Word:
        """The value in a word."""
        return "like" if self.value >= LIKE_FROM else "in between" if self.value >= UNLIKE_BELOW else "unlike"


def likeness(
    features: Floats,
    weight: Floats,
    bias: Floats,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    seed: int = 0,
) -> Likeness:
    """The likeness of n pictures, from their features (n, D) and the pretrained last layer: weight (K, D), bias (K,).

    labels: (n,); pairs within a class are left out, unless all pictures are of one. groups: (n,) near-duplicates share
    one, and are never a pair. The interval is a percentile bootstrap over groups, drawn from `seed`.
    Raises ValueError where no pair is left.
    """
    roots = np.sqrt(softmax(features @ weight.T + bias))  # (n, K)
    apart = 1 - roots @ roots.T  # (n, n), the squared Hellinger distance
    of_one_class = bool((labels == labels[0]).all())
    pairs = groups[:, None] != groups[None, :]
    if not of_one_class:
        pairs &= labels[:, None] != labels[None, :]
    if not pairs.any():
        raise ValueError("likeness needs two pictures that are not near-duplicates of each other, got none")
    apart = np.where(pairs, apart, 0)
    _, group = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        group.max() + 1, np.full(group.max() + 1, 1 / (group.max() + 1)), size=_RESAMPLES
    )
    times = drawn[:, group].astype(np.float32)  # (resamples, n): how often each picture is in
    amount = ((times @ pairs.astype(np.float32)) * times).sum(axis=1)
    total = ((times @ apart.astype(np.float32)) * times).sum(axis=1)
    low, high = np.quantile(total[amount > 0] / amount[amount > 0], [0.025, 0.975])
    value = float(apart.sum(dtype=np.float64) / pairs.sum())
    return Likeness(value, min(float(low), value), max(float(high), value), len(features))


def sample(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of at most SAMPLE pictures, evenly spread over them in the order of their classes."""
    order = np.argsort(labels, kind="stable")
    return np.sort(order[np.unique(np.linspace(0, len(order) - 1, min(len(order), SAMPLE)).astype(np.int64))])


def pretrained_head(trunk: Trunk) -> tuple[Floats, Floats]:
    """The linear layer that was left off the trunk: weight (K, D) and bias (K,)."""
    from safetensors import safe_open

    with safe_open(trunk.weights, framework="numpy") as tensors:
        weight = np.asarray(tensors.get_tensor(f"{trunk.head}.weight"), np.float32)
        named = f"{trunk.head}.bias" in tensors.keys()  # noqa: SIM118 (not a dict)
        bias = tensors.get_tensor(f"{trunk.head}.bias") if named else np.zeros(len(weight))
    return weight.reshape(len(weight), -1), np.asarray(bias, np.float32)
