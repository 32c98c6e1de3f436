"""Where pixels go: flips and shifts of whole pixels, and warps in which several motions cost one resampling.

A motion says where each point of the result comes from. Points are (x, y) in pixels from the centre of the picture,
x to the right, y down; uniforms u are (N, draws) float64 in [0, 1). What lies outside a picture is its mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]  # height, width in pixels

SHIFT: Final = 8  # 1/8 of a side, as 4 pixels of 32
TRANSLATION: Final = 0.1  # of a side
ROTATION: Final = 15.0  # degrees
STRETCH: Final = 1.25
SHEAR: Final = 12.0  # degrees
BEND: Final = 0.2  # of the distance from the centre, at the corners
AREA: Final = (0.35, 1.0)  # of the picture; the paper's 0.08 suits a hundred epochs and more
ASPECT: Final = (3 / 4, 4 / 3)
SHORT_SIDE: Final = (256 / 224, 480 / 224)  # over the window's side


@dataclass(frozen=True)
class Affine:
    """(x, y) of the result comes from matrix · (x, y, 1); matrix: (N, 2, 3) float64."""

    matrix: Tensor


@dataclass(frozen=True)
class Radial:
    """A point at r of the result comes from r · (1 + bend · r²), where r is 1 at the corners; bend: (N,) float64."""

    bend: Tensor


Motion = Affine | Radial


def flip(x: Tensor) -> Tensor:
    """(N, C, H, W) → the same with left and right exchanged."""
    return x.flip(3)


def crop(x: Tensor, u: Tensor) -> Tensor:
    """Pad by 1/8 of each side and cut out a window of the old size: a shift of whole pixels, values untouched.

    x: (N, C, H, W). u: (N, 2), down and right. Source: He et al., CVPR 2016, §4.2; they pad with zeros.
    """
    n, c, h, w = x.shape
    rows = _mirrored(torch.arange(h, device=x.device) - _whole_shift(u[:, :1], h), h)  # (N, H)
    columns = _mirrored(torch.arange(w, device=x.device) - _whole_shift(u[:, 1:], w), w)  # (N, W)
    places = rows[:, None, :, None] * w + columns[:, None, None, :]  # (N, 1, H, W)
    return x.reshape(n, c, h * w).gather(2, places.reshape(n, 1, h * w).expand(n, c, h * w)).reshape(n, c, h, w)


def scale_crop(x: Tensor, u: Tensor, *, size: int) -> Tensor:
    """Scale the short side to a random 256 … 480 and cut out 224², in proportion to `size`, in one resampling.

    x: (N, C, H, W), of short side up to 2 · size, as bilinear sampling wants it. u: (N, 3): scale, down, right.
    Returns (N, C, size, size). Source: Simonyan & Zisserman, ICLR 2015, §3.1.
    """
    h, w = x.shape[2:]
    side = min(h, w) / _between(u[:, 0], *SHORT_SIDE)  # (N,) pixels of the picture
    matrix = _window(side / size, side / size, u[:, 1:], (w - side, h - side))
    return warp(x, [Affine(matrix)], size=(size, size))


def flip_motion(u: Tensor, _: Size) -> Affine:
    """A mirror about the vertical axis."""
    return Affine(_matrix(-_ones(u), 0, 0, 0, 1, 0))


def crop_motion(u: Tensor, size: Size) -> Affine:
    """A shift by whole pixels, up to the margin on each side."""
    down, right = _whole_shift(u[:, 0], size[0]), _whole_shift(u[:, 1], size[1])
    return Affine(_matrix(_ones(u), 0, -right, 0, 1, -down))


def scale_crop_motion(u: Tensor, size: Size) -> Affine:
    """The window of `scale_crop` in the picture's own proportions, brought back to the picture's size."""
    side = 1 / _between(u[:, 0], *SHORT_SIDE)  # (N,) of the picture's sides
    return Affine(_window(side, side, u[:, 1:], (size[1] * (1 - side), size[0] * (1 - side))))


def resized_crop_motion(u: Tensor, size: Size) -> Affine:
    """A window of random area and aspect, brought back to the picture's size; a side longer than it is cut to it.

    u: (N, 4): area, aspect, down, right. Source: Szegedy et al., CVPR 2015, §6.
    """
    h, w = size
    area = h * w * _between(u[:, 0], *AREA)
    aspect = _between(u[:, 1], math.log(ASPECT[0]), math.log(ASPECT[1])).exp()  # width over height
    width, height = (area * aspect).sqrt().clamp(max=w), (area / aspect).sqrt().clamp(max=h)
    return Affine(_window(width / w, height / h, u[:, 2:], (w - width, h - height)))


def translation(u: Tensor, size: Size) -> Affine:
    """A shift by any part of a pixel."""
    down, right = (side * _between(u[:, i], -TRANSLATION, TRANSLATION) for i, side in enumerate(size))
    return Affine(_matrix(_ones(u), 0, -right, 0, 1, -down))


def rotation(u: Tensor, _: Size) -> Affine:
    """A turn about the centre."""
    return rotated(_between(u[:, 0], -ROTATION, ROTATION))


def rotated(degrees: Tensor) -> Affine:
    """A turn about the centre; degrees: (N,), counter-clockwise."""
    angle = torch.deg2rad(degrees.double())
    cos, sin = angle.cos(), angle.sin()
    return Affine(_matrix(cos, -sin, 0, sin, cos, 0))


def stretch(u: Tensor, _: Size) -> Affine:
    """Each axis longer or shorter, on its own."""
    down, right = (_between(u[:, i], -math.log(STRETCH), math.log(STRETCH)).exp() for i in (0, 1))
    return Affine(_matrix(1 / right, 0, 0, 0, 1 / down, 0))


def shear(u: Tensor, _: Size) -> Affine:
    """Rows pushed sideways and columns up or down, each in proportion to their place."""
    down, right = (torch.deg2rad(_between(u[:, i], -SHEAR, SHEAR)).tan() for i in (0, 1))
    return Affine(_matrix(_ones(u), -right, 0, -down, 1, 0))


def lens(u: Tensor, _: Size) -> Radial:
    """Radial distortion of the first order: above 0 a barrel, below 0 a cushion. Source: Brown 1966."""
    return Radial(_between(u[:, 0], -BEND, BEND))


def fitted(x: Tensor, size: Size) -> Affine:
    """All of the pictures x (N, C, H, W) on `size`."""
    down, right = x.shape[2] / size[0], x.shape[3] / size[1]
    return Affine(
        torch.tensor([[right, 0, 0], [0, down, 0]], dtype=torch.float64, device=x.device).expand(len(x), 2, 3)
    )


def only(motion: Motion, chosen: Tensor) -> Motion:
    """The motion for the pictures that are chosen, none for the others; chosen: (N,) bool."""
    if isinstance(motion, Radial):
        return Radial(torch.where(chosen, motion.bend, 0.0))
    still = torch.eye(2, 3, dtype=torch.float64, device=chosen.device)
    return Affine(torch.where(chosen[:, None, None], motion.matrix, still))


def warp(x: Tensor, motions: Sequence[Motion], *, size: Size | None = None) -> Tensor:
    """One motion after another, in one bilinear resampling.

    x: (N, C, H, W). motions: in the order in which the picture undergoes them. size: of the result, the picture's own
    if None. Returns (N, C, *size), within the range of x.
    """
    n, _, h, w = x.shape
    height, width = size or (h, w)
    across = torch.arange(width, dtype=torch.float64, device=x.device)[None, None] - (width - 1) / 2  # (1, 1, W)
    down = torch.arange(height, dtype=torch.float64, device=x.device)[None, :, None] - (height - 1) / 2  # (1, H, 1)
    radius = math.hypot((h - 1) / 2, (w - 1) / 2) or 1.0  # of the corners' pixels
    matrix = torch.eye(2, 3, dtype=torch.float64, device=x.device).expand(n, 2, 3)
    for motion in reversed(motions):
        if isinstance(motion, Affine):
            matrix = _after(motion.matrix, matrix)
            continue
        points = _moved(matrix, across, down)
        square = points.real.square().add_(points.imag.square()).mul_(1 / radius**2)  # (N, H, W), 1 at the corners
        points = points * square.mul_(motion.bend.float()[:, None, None]).add_(1)
        across, down = points.real, points.imag
        matrix = torch.eye(2, 3, dtype=torch.float64, device=x.device).expand(n, 2, 3)
    half = torch.tensor([w / 2, h / 2], dtype=torch.float64, device=x.device)  # grid_sample's unit
    grid = torch.view_as_real(_moved(matrix / half[:, None], across, down))  # (N, H, W, 2)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _moved(matrix: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Points through a matrix; across, down: shapes that broadcast to (N, H, W). Returns x + iy, (N, H, W) complex64.

    Complex numbers, because one addition then makes both coordinates, side by side as grid_sample reads them.
    """
    a = matrix[:, :, :, None, None].to(across.dtype)  # (N, 2, 3, 1, 1)
    along = torch.complex(a[:, 0, 0] * across + a[:, 0, 2], a[:, 1, 0] * across + a[:, 1, 2])
    return along.to(torch.complex64) + torch.complex(a[:, 0, 1] * down, a[:, 1, 1] * down).to(torch.complex64)


def _after(second: Tensor, first: Tensor) -> Tensor:
    """The affine map that is `first` and then `second`; each (N, 2, 3). Sums in a fixed order, unlike a product's."""
    linear = second[:, :, 0:1] * first[:, 0:1] + second[:, :, 1:2] * first[:, 1:2]  # (N, 2, 3)
    return torch.cat([linear[:, :, :2], linear[:, :, 2:] + second[:, :, 2:]], dim=2)


def _window(across: Tensor, down: Tensor, u: Tensor, room: tuple[Tensor, Tensor]) -> Tensor:
    """(N, 2, 3) that enlarges a window: across, down: (N,) its pixels per pixel of the result; u: (N, 2) down and
    right; room: (N,) each, by how many pixels the picture is wider and higher than the window."""
    return _matrix(across, 0, room[0] * (u[:, 1] - 0.5), 0, down, room[1] * (u[:, 0] - 0.5))


def _matrix(*entries: Tensor | float) -> Tensor:
    """Six numbers or (N,) tensors, row by row, the first a tensor → (N, 2, 3)."""
    first = entries[0]
    assert isinstance(first, Tensor)
    columns = [e if isinstance(e, Tensor) else torch.full_like(first, e) for e in entries]
    return torch.stack([column.double() for column in columns], dim=1).reshape(-1, 2, 3)


def _whole_shift(u: Tensor, side: int) -> Tensor:
    """Uniform among −p … p, p an eighth of the side rounded up, in pixels."""
    most = -(-side // SHIFT)
    return (u * (2 * most + 1)).floor().long() - most


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Places up to one side beyond a side → within it: −1 → 0, −2 → 1, side → side − 1."""
    places = torch.where(places < 0, -1 - places, places)
    return torch.where(places >= side, 2 * side - 1 - places, places)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _ones(u: Tensor) -> Tensor:
    return torch.ones(len(u), dtype=torch.float64, device=u.device)
