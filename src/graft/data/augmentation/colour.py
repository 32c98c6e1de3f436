"""What pixels' values become: brightness, contrast, colour, histograms.

Pictures x are (N, C, H, W) float32 of 0–1, and so is what comes back; u are (N, draws) float64 uniforms in [0, 1).
Grey pictures (C = 1) have no saturation, hue or colour noise: those leave them as they are. Brightness, contrast,
saturation and hue are linear in colour, so all four cost one pass, and only its end is cut to 0–1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLEND: Final = (0.6, 1.4)  # factors of brightness, contrast and saturation
TURN: Final = 18.0  # degrees of hue, either way
NOISE: Final = 0.1  # the paper's standard deviation
LUMA: Final = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
LEVELS: Final = 256


@dataclass(frozen=True)
class ColourComponents:
    """The principal components of colour: values (3,), variances of 0–1 RGB, greatest first; vectors (3, 3), a
    component a column."""

    values: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float64]


IMAGENET_COLOURS: Final = ColourComponents(  # as the field prints them, since the paper did not
    np.array([0.2175, 0.0188, 0.0045]),
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]),
)


def colour_components(pixels: npt.NDArray[np.uint8]) -> ColourComponents:
    """The components of a set of pictures, to be fitted on the training split.

    pixels: (N, H, W, 3) of 0–255. Raises ValueError for other shapes.
    Source: Krizhevsky et al., NIPS 2012, §4.1.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(f"colour components need RGB pictures (N, H, W, 3), got {pixels.shape}")
    colours = pixels.reshape(-1, 3)
    total, products = np.zeros(3), np.zeros((3, 3))
    for start in range(0, len(colours), 2**20):
        some = colours[start : start + 2**20] / 255
        total += some.sum(axis=0)
        products += some.T @ some
    mean = total / len(colours)
    values, vectors = np.linalg.eigh(products / len(colours) - np.outer(mean, mean))
    return ColourComponents(values[::-1].clip(min=0), vectors[:, ::-1])


def brightness(x: Tensor, u: Tensor) -> Tensor:
    """Lighter or darker by one factor."""
    return _recolour(x, _brighter(x, u[:, 0]))


def contrast(x: Tensor, u: Tensor) -> Tensor:
    """Away from or towards the picture's mean luma."""
    return _recolour(x, _contrasting(x, u[:, 0], _mean_luma(x)))


def saturation(x: Tensor, u: Tensor) -> Tensor:
    """Away from or towards the picture's own grey."""
    return x if x.shape[1] == 1 else _recolour(x, _saturated(u[:, 0]))


def hue(x: Tensor, u: Tensor) -> Tensor:
    """Every colour turned by one part of the circle of hues."""
    return x if x.shape[1] == 1 else _recolour(x, _turned(u[:, 0]))


def jitter(x: Tensor, u: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in this order; u: (N, 4). Source: Howard, 2013, arXiv:1312.5402, §2."""
    map_ = _brighter(x, u[:, 0])
    map_ = _then(map_, _contrasting(x, u[:, 1], map_[:, 0, 0] * _mean_luma(x)))
    if x.shape[1] == 3:
        map_ = _then(_then(map_, _saturated(u[:, 2])), _turned(u[:, 3]))
    return _recolour(x, map_)


def pca(x: Tensor, u: Tensor, components: ColourComponents = IMAGENET_COLOURS) -> Tensor:
    """Add vectors · (α · values), α ~ N(0, 0.1²) for each component, to all pixels; u: (N, 3).

    Source: Krizhevsky et al., NIPS 2012, §4.1.
    """
    if x.shape[1] == 1:
        return x
    alpha = NOISE * torch.special.ndtri(u + 2.0**-54)  # (N, 3); u may be 0, and never 1
    scaled = alpha * torch.from_numpy(components.values).to(x.device)
    vectors = torch.from_numpy(components.vectors.copy()).to(x.device)
    shift = sum(scaled[:, i : i + 1] * vectors[:, i] for i in range(3))  # (N, 3), in a fixed order
    assert isinstance(shift, Tensor)
    return (x + shift.float()[:, :, None, None]).clamp_(0, 1)


def grey(x: Tensor) -> Tensor:
    """(N, 3, H, W) → each channel the luma; grey pictures as they are."""
    return x if x.shape[1] == 1 else _luma(x).expand_as(x).contiguous()


def histogram(x: Tensor, u: Tensor) -> Tensor:
    """Each picture's histograms made those of another picture of the batch; u: (N, 1).

    The only augmentation whose result depends on the batch: the epoch's order and the batch size decide it.
    """
    return match_histograms(x, x[partners(u[:, 0])])


def partners(u: Tensor) -> Tensor:
    """(N,) uniforms → (N,) places of another picture of the batch each; the only picture of a batch is its own."""
    n = len(u)
    away = 1 + (u * (n - 1)).floor().long()  # 1 … n − 1 places further round the batch
    return (torch.arange(n, device=u.device) + away) % n


def match_histograms(x: Tensor, reference: Tensor) -> Tensor:
    """Each level moved to the least one that as large a share of the reference's pixels does not exceed.

    x: (N, C, H, W). reference: the same shape. Counted in 256 levels a channel, in whole numbers.
    Source: Gonzalez & Woods, Digital Image Processing, 4th ed. 2018, §3.3.
    """
    levels = _levels(x)  # (N, C, H·W)
    ranks, known = (_counts(each).cumsum(dim=2) for each in (levels, _levels(reference)))  # (N, C, 256)
    moved = torch.searchsorted(known, ranks)  # (N, C, 256): the first level with at least that many pixels
    return (moved.float() / (LEVELS - 1)).gather(2, levels).reshape(x.shape)


def channel_means(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C) float64; row by row, as a sum divided among threads has other bits."""
    return x.sum(dim=3).double().sum(dim=2) / (x.shape[2] * x.shape[3])


def _levels(x: Tensor) -> Tensor:
    return (x * (LEVELS - 1)).round().long().flatten(2)


def _counts(levels: Tensor) -> Tensor:
    """(N, C, H·W) levels → (N, C, 256): how many pixels have each."""
    n, c, _ = levels.shape
    first = LEVELS * torch.arange(n * c, device=levels.device).reshape(n, c, 1)
    return torch.bincount((levels + first).flatten(), minlength=n * c * LEVELS).reshape(n, c, LEVELS)


# A map of colours is (N, C, C + 1) float64: a matrix, and a last column that is added.


def _brighter(x: Tensor, u: Tensor) -> Tensor:
    return _scaled(x.shape[1], _blend(u))


def _contrasting(x: Tensor, u: Tensor, mean: Tensor) -> Tensor:
    factor = _blend(u)
    map_ = _scaled(x.shape[1], factor)
    map_[:, :, -1] = ((1 - factor) * mean)[:, None]
    return map_


def _saturated(u: Tensor) -> Tensor:
    factor = _blend(u)[:, None]
    map_ = _scaled(3, factor[:, 0])
    for channel, weight in enumerate(LUMA):
        map_[:, :, channel] += (1 - factor) * weight
    return map_


def _turned(u: Tensor) -> Tensor:
    return turned(TURN * (2 * u - 1))


def turned(degrees: Tensor) -> Tensor:
    """(N,) → maps that turn RGB about the grey axis, red towards green; a third of a turn exchanges the channels."""
    angle = torch.deg2rad(degrees.double())
    rest, side = (1 - angle.cos()) / 3, angle.sin() / math.sqrt(3)
    same, up, down = 1 - 2 * rest, rest + side, rest - side
    rows = [torch.stack(row, dim=1) for row in ((same, down, up), (up, same, down), (down, up, same))]
    return torch.cat([torch.stack(rows, dim=1), torch.zeros_like(angle).reshape(-1, 1, 1).expand(-1, 3, 1)], dim=2)


def _blend(u: Tensor) -> Tensor:
    return BLEND[0] + (BLEND[1] - BLEND[0]) * u


def _scaled(channels: int, factor: Tensor) -> Tensor:
    return torch.eye(channels, channels + 1, dtype=torch.float64, device=factor.device) * factor[:, None, None]


def _then(first: Tensor, second: Tensor) -> Tensor:
    """The map that is `first` and then `second`; sums in a fixed order, unlike a product's."""
    c = first.shape[1]
    joined = sum(second[:, :, i : i + 1] * first[:, i : i + 1] for i in range(c))  # (N, C, C + 1)
    assert isinstance(joined, Tensor)
    joined[:, :, -1] += second[:, :, -1]
    return joined


def _recolour(x: Tensor, map_: Tensor) -> Tensor:
    """Pictures through maps of their colours, cut to 0–1."""
    c = x.shape[1]
    a = map_.float()[:, :, :, None, None]  # (N, C, C + 1, 1, 1)
    out = torch.empty_like(x)
    for channel in range(c):
        value = torch.addcmul(a[:, channel, c], a[:, channel, 0], x[:, 0])  # (N, H, W)
        for other in range(1, c):
            value.addcmul_(a[:, channel, other], x[:, other])
        torch.clamp(value, 0, 1, out=out[:, channel])
    return out


def _luma(x: Tensor) -> Tensor:
    red, green, blue = LUMA
    return (x[:, 0:1] * red).add_(x[:, 1:2], alpha=green).add_(x[:, 2:3], alpha=blue)  # (N, 1, H, W)


def _mean_luma(x: Tensor) -> Tensor:
    """(N,) float64."""
    means = channel_means(x)
    return means[:, 0] if x.shape[1] == 1 else means[:, 0] * LUMA[0] + means[:, 1] * LUMA[1] + means[:, 2] * LUMA[2]
