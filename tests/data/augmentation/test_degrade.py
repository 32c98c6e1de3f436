"""Blur, JPEG and cutout, against scipy, Pillow and counting."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from graft.data.augmentation import degrade


def photo() -> torch.Tensor:
    """(1, 3, 120, 160), part of a photo."""
    pixels = np.ascontiguousarray(load_sample_image("flower.jpg")[100:220, 200:360])
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def u_of(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(("u", "quality"), [(0.0, 10), (0.5, 50), (0.9999, 90)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(u: float, quality: int, channels: int) -> None:
    x = photo()[:, :channels]
    pixels = (x[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(file, "JPEG", quality=quality)
    expected = np.asarray(Image.open(file)).reshape(pixels.shape)
    compressed = (degrade.jpeg(x, u_of(u))[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(compressed, expected)
    assert np.abs(compressed - pixels).mean() > 0.3


@pytest.mark.parametrize(("u", "sigma"), [(0.0, 0.1), (0.5, (0.1 + 120 / 112) / 2), (1.0, 120 / 112)])
def test_blur_is_scipys_gaussian(u: float, sigma: float) -> None:
    x = photo()
    expected = gaussian_filter(x[0].double().numpy(), sigma, axes=(1, 2), radius=4, mode="nearest")
    assert np.abs(degrade.blur(x, u_of(u))[0].numpy() - expected).max() < 1e-6


def test_blur_takes_pictures_smaller_than_its_reach() -> None:
    x = torch.tensor([[[[0.2, 0.6]]]])
    assert degrade.blur(x, u_of(1.0)).mean().item() == pytest.approx(0.4)


def test_cutout_is_a_square_of_half_the_side_in_the_mean_colour() -> None:
    x = photo()
    cut = degrade.cutout(x, u_of(0.5, 0.5))
    changed = (cut != x).any(dim=1)[0]
    rows, columns = changed.any(dim=1).nonzero().flatten(), changed.any(dim=0).nonzero().flatten()
    assert (rows[0].item(), rows[-1].item(), columns[0].item(), columns[-1].item()) == (30, 89, 50, 109)
    assert torch.allclose(cut[0, :, 30:90, 50:110], x.mean(dim=(2, 3))[0][:, None, None].expand(3, 60, 60), atol=1e-6)


def test_cutout_is_cut_off_at_the_border() -> None:
    x = torch.zeros(3, 1, 32, 32)
    x[:, :, ::2] = 1  # no pixel has the mean colour
    u = torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]], dtype=torch.float64)
    areas = (degrade.cutout(x, u) == 0.5).sum(dim=(1, 2, 3))
    assert areas.tolist() == [8 * 8, 9 * 9, 16 * 8]  # around pixel 0: −8 … 7; around 31: 23 … 38
