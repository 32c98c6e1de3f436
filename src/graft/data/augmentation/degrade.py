"""What a lens out of focus, a file or something in front takes away: blur, JPEG compression, cutout.

Pictures x are (N, C, H, W) float32 of 0–1, and so is what comes back; u are (N, draws) float64 uniforms in [0, 1).
"""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torch.nn.functional import pad

from graft.data.augmentation.colour import channel_means

QUALITY: Final = (10, 90)
CUT: Final = 2  # the square's side is the short side over this: 16 of 32 pixels, as the paper has it for CIFAR-10
LEAST_BLUR: Final = 0.1  # pixels
WIDEST_BLUR: Final = (0.7, 112)  # pixels, or the short side over this where that is more


def jpeg(x: Tensor, u: Tensor) -> Tensor:
    """Each picture through a JPEG file of quality 10 … 90, by Pillow, one after another on the CPU; u: (N, 1).

    Source: Hendrycks & Dietterich, ICLR 2019, §3.
    """
    qualities = (QUALITY[0] + (u[:, 0] * (QUALITY[1] - QUALITY[0] + 1)).floor()).long().tolist()
    levels = (x.cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    files = [_compressed(pixels, quality) for pixels, quality in zip(levels, qualities, strict=True)]
    return (torch.from_numpy(np.stack(files)).permute(0, 3, 1, 2).contiguous().float() / 255).to(x.device)


def _compressed(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """(H, W, C) → the same after a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(file, "JPEG", quality=quality)
    file.seek(0)
    return np.asarray(JpegImageFile(file)).reshape(pixels.shape)


def blur(x: Tensor, u: Tensor) -> Tensor:
    """Gaussian blur, σ from 0.1 pixels to 1/112 of the short side (0.7 pixels at least); u: (N, 1).

    Source: Chen et al. (SimCLR), ICML 2020, appendix A: σ up to 2 at 224².
    """
    h, w = x.shape[2:]
    widest = max(WIDEST_BLUR[0], min(h, w) / WIDEST_BLUR[1])
    sigma = LEAST_BLUR + (widest - LEAST_BLUR) * u  # (N, 1) pixels
    r = math.ceil(3 * widest)  # the same for all pictures of a size, whatever their σ
    weights = (-torch.arange(r + 1, device=u.device).square() / (2 * sigma.square())).exp()  # (N, r + 1), centre first
    weights = (weights / (2 * weights.sum(dim=1, keepdim=True) - weights[:, :1])).float()[:, :, None, None, None]
    padded = pad(x, (r, r, r, r), mode="replicate")
    down = padded[:, :, r : r + h] * weights[:, 0]
    for d in range(1, r + 1):
        down.addcmul_(padded[:, :, r - d : r - d + h] + padded[:, :, r + d : r + d + h], weights[:, d])
    blurred = down[..., r : r + w] * weights[:, 0]
    for d in range(1, r + 1):
        blurred.addcmul_(down[..., r - d : r - d + w] + down[..., r + d : r + d + w], weights[:, d])
    return blurred.clamp_(0, 1)


def cutout(x: Tensor, u: Tensor) -> Tensor:
    """A square centred on any pixel, as far as it lies within the picture, in the picture's mean colour; u: (N, 2).

    Source: DeVries & Taylor, 2017, arXiv:1708.04552, §3.1; their zeros stand where the mean was taken away.
    """
    h, w = x.shape[2:]
    side = max(1, min(h, w) // CUT)
    rows, columns = (_covered(u[:, i], side, length) for i, length in enumerate((h, w)))  # (N, H), (N, W)
    square = (rows[:, :, None] & columns[:, None, :])[:, None]  # (N, 1, H, W)
    return torch.where(square, channel_means(x).float()[:, :, None, None], x)


def _covered(u: Tensor, side: int, length: int) -> Tensor:
    """(N, length) bool: the pixels of a line under a stretch of `side` around one of them."""
    first = (u * length).floor().long() - side // 2  # (N,)
    places = torch.arange(length, device=u.device)
    return (places >= first[:, None]) & (places < first[:, None] + side)
