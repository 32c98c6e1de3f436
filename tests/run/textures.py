"""Pictures of stripes and checks, and a small network with weights in a file, for tests of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from timm import create_model
from torch import nn
from torch.nn.functional import interpolate

from models.drawn import draw_norms

SIDE = 64
ARCHITECTURE = "test_resnet"
NETWORK = f"timm:{ARCHITECTURE}"


def textures(folder: Path, count: int, *, kinds: Sequence[str] = ("across", "check", "down"), first: int = 0) -> Path:
    """Class folders of `count` pictures each; all classes have the same colours in the same shares."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for number in range(first, first + count):
            pixels = texture(kind, np.random.default_rng((ord(kind[0]), number)))
            Image.fromarray(pixels).save(folder / kind / f"{number:03}.png")
    return folder


def texture(kind: str, drawn: np.random.Generator) -> NDArray[np.uint8]:
    """(64, 64, 3), 0–255: a blotch of colours, half of its pixels brighter, in bands 4 pixels wide, and noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    down, across = (((axis + drawn.integers(8)) // 4) % 2 for axis in (x, y))
    bright = {"down": down, "across": across, "check": down ^ across}[kind][..., None]
    coarse = Image.fromarray(drawn.integers(50, 206, (4, 4, 3), dtype=np.uint8))
    blotch = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    noise = drawn.normal(0, 5, (SIDE, SIDE, 3))
    return np.clip(blotch + 80 * bright - 40 + noise, 0, 255).astype(np.uint8)


def drawn_weights(file: Path) -> Path:
    """A network with drawn weights, whose stages tell textures apart as random filters do."""
    save_file(_network().state_dict(), file)
    return file


def blind_to_direction(file: Path) -> Path:
    """The same, but every filter is its own transpose, so that a picture's features are those of the transposed one.

    No head on any of its stages can tell stripes across from stripes down. Training can: it breaks the symmetry.
    """
    network = _network()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.copy_((parameter + parameter.transpose(2, 3)) / 2)
    save_file(network.state_dict(), file)
    return file


def _network() -> nn.Module:
    """Its batch norms have the statistics of textures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = create_model(ARCHITECTURE)
    some = [texture(kind, np.random.default_rng(number)) for number in range(8) for kind in ("across", "down")]
    pictures = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2) / 255  # (16, 3, 64, 64)
    draw_norms(network, (interpolate(pictures, size=160, mode="bilinear") - 0.5) / 0.25, seed=1)
    return network
