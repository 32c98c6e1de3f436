"""What happens to a decoded picture before a network sees it: data that travels with the model.

A picture is fitted into a square of `size` pixels and stays uint8 RGB; the scaling to the network's own range is
the first operation inside every exported graph, so that whoever feeds it can only get the geometry wrong.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["crop", "pad", "squash"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

FITS: Final[tuple[Fit, ...]] = ("crop", "pad", "squash")
_FILTERS: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes a network's input. A change in any field makes a new model.

    size: side of the square, pixels. fit: `crop` keeps the central square, `pad` adds bars of the mean colour,
    `squash` scales both sides on their own. mean, std: per channel that the network takes, in the 0–1 range: three for
    RGB, one for grey, which is the luma of ITU-R BT.601.
    """

    size: int
    fit: Fit = "squash"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"size must be between 1 and 4096 pixels, got {self.size}")
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation must be one of {', '.join(_FILTERS)}, got {self.interpolation!r}")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise ValueError(
                f"mean and std need three values each (grey: one), std above 0, got {self.mean} and {self.std}"
            )

    def geometry_digest(self) -> str:
        """16 hex digits that change with anything that changes the pixels."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def fit_picture(picture: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """A decoded RGB picture of any size → (size, size, 3) uint8, 0–255."""
    size, (width, height) = preprocess.size, picture.size
    resample = _FILTERS[preprocess.interpolation]
    if preprocess.fit == "squash":
        return np.asarray(picture.resize((size, size), resample))
    if preprocess.fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return np.asarray(picture.resize((size, size), resample, box=(left, top, left + side, top + side)))
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    red, green, blue = (round(255 * m) for m in (preprocess.mean * 3)[:3])
    canvas = Image.new("RGB", (size, size), (red, green, blue))
    canvas.paste(picture.resize(inner, resample), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.asarray(canvas)
