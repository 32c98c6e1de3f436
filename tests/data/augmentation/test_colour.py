"""What values become: torchvision, numpy and the papers' formulas as oracles, on real photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.datasets import load_sample_image
from torch import Tensor
from torchvision.transforms.v2 import functional

from graft.data.augmentation import colour


def photos() -> Tensor:
    """(2, 3, 100, 150), parts of two photos."""
    pixels = np.stack([load_sample_image(name)[150:250, 200:350] for name in ("china.jpg", "flower.jpg")])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255


def u_of(*values: float) -> Tensor:
    """(n, 1) uniforms."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blends_are_torchvisions(name: str) -> None:
    x = photos()
    changed = getattr(colour, name)(x, u_of(0.0, 1.0))
    for picture, result, factor in zip(x, changed, (0.6, 1.4), strict=True):
        expected = getattr(functional, f"adjust_{name}")(picture, factor)
        assert (result - expected).abs().max() < 2e-4  # torchvision's luma is 0.2989, 0.587, 0.114
        assert (result - picture).abs().max() > 0.05


def test_jitter_is_its_parts_in_order_where_nothing_is_cut() -> None:
    x = 0.4 + 0.1 * photos()  # far from 0 and 1
    u = torch.tensor([[0.9, 0.2, 0.8, 0.1], [0.3, 0.9, 0.1, 0.7]], dtype=torch.float64)
    parts = x
    for i, part in enumerate((colour.brightness, colour.contrast, colour.saturation, colour.hue)):
        parts = part(parts, u[:, i : i + 1])
    assert (colour.jitter(x, u) - parts).abs().max() < 1e-6


def test_hue_by_a_third_of_a_turn_exchanges_the_channels() -> None:
    x = photos()
    turned = colour._recolour(x, colour.turned(torch.tensor([120.0, -120.0])))
    assert (turned[0] - x[0].roll(1, dims=0)).abs().max() < 1e-6  # red becomes green
    assert (turned[1] - x[1].roll(-1, dims=0)).abs().max() < 1e-6
    expected = functional.adjust_hue(x[0], 1 / 3)  # HSV agrees at thirds of a turn
    assert (turned[0] - expected).abs().max() < 1e-5


def test_hue_keeps_greys_and_the_mean_of_the_channels() -> None:
    x = 0.3 + 0.3 * photos()
    turned = colour.hue(x, u_of(0.0, 1.0))
    assert (turned.mean(dim=1) - x.mean(dim=1)).abs().max() < 1e-6
    assert (turned - x).abs().max() > 0.02
    grey = torch.full((1, 3, 2, 2), 0.3)
    assert torch.allclose(colour.hue(grey, u_of(1.0)), grey, atol=1e-6)


def test_components_are_numpys_covariance() -> None:
    pixels = (photos() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = colour.colour_components(pixels)
    covariance = np.cov(pixels.reshape(-1, 3).T / 255, bias=True)
    assert np.allclose(found.vectors @ np.diag(found.values) @ found.vectors.T, covariance, atol=1e-12)
    assert np.allclose(found.vectors.T @ found.vectors, np.eye(3))
    assert (np.diff(found.values) <= 0).all()


def test_pca_noise_is_the_papers_formula() -> None:
    x = 0.4 + 0.1 * photos()
    pixels = (photos() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    components = colour.colour_components(pixels)
    u = np.array([[0.1, 0.8, 0.5], [0.97, 0.3, 0.02]])
    noisy = colour.pca(x, torch.from_numpy(u), components)
    for i in range(2):
        alpha = 0.1 * norm.ppf(u[i])
        shift = components.vectors @ (alpha * components.values)  # [p1 p2 p3] [α1 λ1, α2 λ2, α3 λ3]ᵀ
        assert np.abs((noisy[i] - x[i]).numpy() - shift[:, None, None]).max() < 1e-6


def test_the_published_components_are_nearly_orthonormal_and_of_imagenets_variance() -> None:
    published = colour.IMAGENET_COLOURS
    assert np.allclose(published.vectors.T @ published.vectors, np.eye(3), atol=2e-3)
    noise = published.vectors @ np.diag(0.1 * published.values)
    assert noise.std() < 0.02  # of 0–1: it shifts colours, it does not hide the picture


def test_pca_takes_the_least_uniform_there_is() -> None:
    assert torch.isfinite(colour.pca(photos()[:1], torch.zeros(1, 3, dtype=torch.float64))).all()


def numpy_matched(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """One channel of levels 0–255, matched pixel by pixel: the reference's value at the pixel's rank."""
    ranks = np.searchsorted(np.sort(x.ravel()), x.ravel(), side="right")  # pixels not above this one
    return np.sort(reference.ravel())[ranks - 1].reshape(x.shape)


def test_histogram_matching_is_numpys_by_sorting() -> None:
    x = photos()
    matched = colour.match_histograms(x, x.flip(0))
    levels, found = ((255 * each).round().int().numpy() for each in (x, matched))
    for i in range(2):
        for channel in range(3):
            assert np.array_equal(found[i, channel], numpy_matched(levels[i, channel], levels[1 - i, channel]))


def test_matched_histograms_have_the_references_distribution() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.sort(rng.random((1, 1, 200, 200)), axis=2)).float()
    reference = torch.from_numpy(rng.random((1, 1, 200, 200)) ** 3).float()
    cdfs = [
        np.cumsum(np.bincount((255 * each).round().int().flatten().numpy(), minlength=256)) / 40_000
        for each in (colour.match_histograms(x, reference), reference)
    ]
    assert np.abs(cdfs[0] - cdfs[1]).max() < 0.006  # a level of x holds 1/256 of the pixels
    whole = (x * 255).round() / 255
    assert torch.equal(colour.match_histograms(x, x), whole)


def test_partners_are_others_and_each_is_as_likely() -> None:
    u = torch.rand(9000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).reshape(1000, 9)
    drawn = torch.stack([colour.partners(row) for row in u])  # (1000, 9)
    for i in range(9):
        counts = torch.bincount(drawn[:, i], minlength=9)
        assert counts[i] == 0
        assert (counts > 0).sum() == 8
        assert ((counts[counts > 0] - 125.0) ** 2 / 125).sum() < 24.3  # the 99.9 % point of χ² with 7 degrees
    assert colour.partners(u[0, :1]).tolist() == [0]


def test_grey_is_torchvisions() -> None:
    x = photos()
    assert (colour.grey(x) - functional.rgb_to_grayscale(x, num_output_channels=3)).abs().max() < 2e-4


def test_colour_leaves_grey_pictures_alone() -> None:
    x = photos()[:, :1]
    u = torch.full((2, 3), 0.9, dtype=torch.float64)
    for change in (colour.saturation, colour.hue, colour.pca):
        assert torch.equal(change(x, u), x)
    assert torch.equal(colour.grey(x), x)
    u = torch.tensor([[0.9, 0.2, 0.0, 0.0], [0.9, 0.2, 1.0, 1.0]], dtype=torch.float64)
    assert torch.equal(colour.jitter(x[:1].expand(2, -1, -1, -1), u)[0], colour.jitter(x[:1], u[1:])[0])


def test_contrast_of_grey_is_about_its_mean() -> None:
    x = torch.tensor([[[[0.3, 0.5], [0.5, 0.7]]]])
    assert colour.contrast(x, u_of(1.0)).flatten().tolist() == pytest.approx([0.22, 0.5, 0.5, 0.78])
    assert colour.brightness(x, u_of(1.0)).flatten().tolist() == pytest.approx([0.42, 0.7, 0.7, 0.98])


def test_components_need_colour() -> None:
    with pytest.raises(ValueError, match=r"RGB pictures \(N, H, W, 3\), got \(2, 4, 4, 1\)"):
        colour.colour_components(np.zeros((2, 4, 4, 1), np.uint8))
