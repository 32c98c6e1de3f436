"""Mixing, against the papers' equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graft.data.augmentation.mixing import Kind, cutmix, cycle, mix, mixup


def batch(n: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture i is i / n everywhere, and of class i."""
    x = (torch.arange(n) / n).float()[:, None, None, None].expand(n, 3, size, size).contiguous()
    return x, torch.eye(n)


def test_mixup_blends_pictures_and_targets_in_one_proportion() -> None:
    n = 50
    x, targets = batch(n)
    mixed, weights = mix(x, targets, kind="mixup", alpha=0.4, seed=0, epoch=0, samples=np.arange(n))
    assert torch.allclose(weights.sum(dim=1), torch.ones(n))
    assert torch.allclose(mixed[:, 0, 0, 0], weights @ x[:, 0, 0, 0])  # a picture is what its target says
    assert torch.equal(mixed.amin(dim=(1, 2, 3)), mixed.amax(dim=(1, 2, 3)))
    assert (weights.count_nonzero(dim=1) == 2).all()


def test_mixup_by_hand() -> None:
    x = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None]
    mixed = mixup(x, torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64))
    assert mixed.flatten().tolist() == [0.0, 0.75, 0.25]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_has_the_moments_of_its_beta_distribution(alpha: float) -> None:
    n = 20_000
    x, targets = torch.zeros(n, 1, 1, 1), torch.zeros(n, 1)
    x[::2] = targets[::2] = 1  # with a partner of the other class, 1 becomes λ
    _, mixed = mix(x, torch.cat([targets, 1 - targets], 1), kind="mixup", alpha=alpha, seed=3, epoch=0,
                   samples=np.arange(n))  # fmt: skip
    share = mixed[::2, 0][mixed[::2, 0] < 1].double()  # of those whose partner is of the other class
    assert len(share) > n / 5
    variance = 1 / (4 * (2 * alpha + 1))
    assert share.mean().item() == pytest.approx(0.5, abs=4 * (variance / len(share)) ** 0.5)
    assert share.var().item() == pytest.approx(variance, rel=0.06)


def test_cutmix_gives_the_target_the_exact_share_of_the_pixels() -> None:
    n, size = 60, 32
    x, targets = batch(n, size)
    mixed, weights = mix(x, targets, kind="cutmix", alpha=1.0, seed=0, epoch=0, samples=np.arange(n))
    own = (mixed[:, 0] == x[:, 0]).double().mean(dim=(1, 2))  # (N,) of the pixels
    assert torch.allclose(weights.diagonal().double(), own, atol=1e-6)
    assert torch.allclose(weights.sum(dim=1), torch.ones(n))
    assert own.min() < 0.3  # boxes large
    assert own.max() > 0.9  # and small


def test_cutmix_box_by_hand() -> None:
    x = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    share = torch.tensor([0.75, 0.75], dtype=torch.float64)  # √(1 − λ) = 1/2: a box of 4×4, a quarter of the area
    centre = torch.tensor([[0.5, 0.5], [0.0, 0.99]], dtype=torch.float64)
    mixed, kept = cutmix(x, torch.tensor([1, 0]), share, centre)
    inside = torch.zeros(8, 8)
    inside[2:6, 2:6] = 1
    corner = torch.ones(8, 8)
    corner[0:2, 5:8] = 0  # around row 0 and column 7: two rows and a column fall outside
    assert torch.equal(mixed[0, 0], inside)
    assert torch.equal(mixed[1, 0], corner)
    assert kept.tolist() == [1 - 16 / 64, 1 - 6 / 64]


def test_cutmix_area_is_one_minus_lambda_where_nothing_is_cut_off() -> None:
    share = torch.linspace(0, 1, 41, dtype=torch.float64)
    n, side = len(share), 200
    _, kept = cutmix(torch.zeros(n, 1, side, side), torch.arange(n), share, torch.full((n, 2), 0.5).double())
    assert (kept - share).abs().max() < 1 / side  # sides are rounded to whole pixels


def test_everybody_is_the_partner_of_exactly_one_other() -> None:
    partners = cycle(np.random.default_rng(0).random(101))
    assert np.array_equal(np.sort(partners), np.arange(101))
    assert (partners != np.arange(101)).all()
    place, steps = 0, 0
    while (place := int(partners[place])) != 0:
        steps += 1
    assert steps == 100  # one circle
    assert cycle(np.array([0.3])).tolist() == [0]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_repeats_itself_and_changes_with_the_epoch(kind: Kind) -> None:
    x, targets = torch.rand(16, 3, 9, 7, generator=torch.Generator().manual_seed(0)), torch.eye(16)
    before = x.clone()
    first, again, later = (
        mix(x, targets, kind=kind, alpha=1.0, seed=1, epoch=epoch, samples=np.arange(16)) for epoch in (0, 0, 1)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], later[0])
    assert torch.equal(x, before)


def test_bad_values_are_refused() -> None:
    x, targets, samples = torch.rand(2, 1, 4, 4), torch.eye(2), np.arange(2)
    with pytest.raises(ValueError, match="kind of mixing must be mixup or cutmix, got 'mixin'"):
        mix(x, targets, kind="mixin", alpha=1.0, seed=0, epoch=0, samples=samples)  # type: ignore[arg-type]
    for alpha in (0.0, float("nan"), -1.0):
        with pytest.raises(ValueError, match="alpha of mixup must be above 0"):
            mix(x, targets, kind="mixup", alpha=alpha, seed=0, epoch=0, samples=samples)
    with pytest.raises(ValueError, match=r"targets \(N, K\) of floats"):
        mix(x, torch.tensor([0, 1]), kind="mixup", alpha=1.0, seed=0, epoch=0, samples=samples)
