"""Mixing: two pictures of a batch made one, and their targets in the same proportion.

Who is mixed with whom is drawn from the batch: every picture is the partner of exactly one other. So what a picture
becomes depends on its batch, which the epoch's order and the batch size decide.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from torch import Tensor

from graft.data.augmentation.draw import CUTMIX_STREAM, MIXUP_STREAM, uniforms

Kind = Literal["mixup", "cutmix"]

_STREAMS: Final = {"mixup": MIXUP_STREAM, "cutmix": CUTMIX_STREAM}


def mix(
    x: Tensor,
    targets: Tensor,
    *,
    kind: Kind,
    alpha: float,
    seed: int,
    epoch: int,
    samples: npt.NDArray[np.int64],
) -> tuple[Tensor, Tensor]:
    """A batch mixed with itself.

    x: (N, C, H, W). targets: (N, K) float, a distribution over classes each. alpha: of Beta(α, α), above 0; 1 is
    uniform, and the smaller the nearer to whole pictures. seed, epoch, samples (N,): what all is drawn from.
    Returns pictures and targets of the same shapes. Raises ValueError for other shapes or values.
    """
    if kind not in _STREAMS:
        raise ValueError(f"kind of mixing must be mixup or cutmix, got {kind!r}")
    if not alpha > 0:
        raise ValueError(f"alpha of {kind} must be above 0, got {alpha}; leave it out for no mixing")
    if (
        x.ndim != 4
        or targets.ndim != 2
        or not len(x) == len(targets) == len(samples)
        or not targets.is_floating_point()
    ):
        raise ValueError(
            f"{kind} needs pictures (N, C, H, W), targets (N, K) of floats and samples (N,), "
            f"got {tuple(x.shape)}, {targets.dtype} {tuple(targets.shape)} and {samples.shape}"
        )
    u = uniforms(seed, epoch, samples, _STREAMS[kind], 4)  # (N, 4): partner, share, down, right
    partners = torch.from_numpy(cycle(u[:, 0])).to(x.device)
    share = torch.from_numpy(betaincinv(alpha, alpha, u[:, 1])).to(x.device)  # (N,) λ ~ Beta(α, α)
    if kind == "mixup":
        return mixup(x, partners, share), _blended(targets, partners, share)
    mixed, kept = cutmix(x, partners, share, torch.from_numpy(u[:, 2:]).to(x.device))
    return mixed, _blended(targets, partners, kept)


def cycle(keys: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Partners round one circle in the order of random keys (n,): nobody is its own, unless it is alone."""
    around = np.argsort(keys, kind="stable")
    partners = np.empty(len(keys), np.int64)
    partners[around] = np.roll(around, -1)
    return partners


def mixup(x: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """λ · x + (1 − λ) · x of the partner.

    x: (N, C, H, W). partners: (N,) places in the batch. share: (N,) λ, 0–1.
    Source: Zhang et al., ICLR 2018, §2; λ for each pair, as their eq. has it.
    """
    return _blended(x, partners, share)


def cutmix(x: Tensor, partners: Tensor, share: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """A box of the partner, (1 − λ) of the area, in the picture's proportions, as far as it lies within the picture.

    x: (N, C, H, W). partners: (N,). share: (N,) λ, 0–1. centre: (N, 2) down and right, 0–1.
    Returns the pictures, and (N,) the share of pixels that each kept: λ again, but for what was cut off or rounded.
    Source: Yun et al., ICCV 2019, §3.1, eq. 2.
    """
    h, w = x.shape[2:]
    cut = (1 - share).sqrt()
    rows, columns = (_inside(centre[:, i], cut, side) for i, side in enumerate((h, w)))  # (N, H), (N, W)
    box = rows[:, :, None] & columns[:, None, :]  # (N, H, W)
    kept = 1 - rows.sum(dim=1).double() * columns.sum(dim=1) / (h * w)
    return torch.where(box[:, None], x[partners], x), kept


def _inside(centre: Tensor, cut: Tensor, side: int) -> Tensor:
    """(N, side) bool: the pixels of a line under a stretch of cut · side pixels, rounded, around a pixel."""
    length = (cut * side).round().long()
    first = (centre * side).floor().long() - length // 2
    places = torch.arange(side, device=centre.device)
    return (places >= first[:, None]) & (places < (first + length)[:, None])


def _blended(values: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    weight = share.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return values * weight + values[partners] * (1 - weight)
