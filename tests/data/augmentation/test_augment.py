"""Policies, and the promise that a picture's augmentation depends on (seed, epoch, sample) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from graft.data.augmentation import colour, geometry, policies
from graft.data.augmentation.augment import AUGMENTATIONS, Augmentation, augment, policy
from graft.data.augmentation.draw import uniforms
from graft.errors import UsageError


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def always(augmentation: Augmentation) -> tuple[Augmentation, ...]:
    return (replace(augmentation, share=1.0),)


def alone(text: str) -> tuple[Augmentation, ...]:
    """A policy without what looks at the rest of the batch."""
    return tuple(each for each in policy(text) if each.across is None)


SINGLE = [pytest.param(always(each), id=each.name) for each in AUGMENTATIONS if each.across is None]
WHOLE = [pytest.param(alone(name), id=name) for name in ("light", "standard", "strong")]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("steps", [*SINGLE, *WHOLE])
@pytest.mark.parametrize("shape", [(37, 1, 28, 28), (11, 3, 33, 47), (2, 3, 224, 224)], ids=["28", "33x47", "224"])
def test_a_picture_is_changed_alike_in_any_batch_and_with_any_number_of_threads(
    steps: tuple[Augmentation, ...], shape: tuple[int, ...]
) -> None:
    x, samples = pictures(*shape), np.random.default_rng(0).permutation(1000)[: shape[0]]
    torch.set_num_threads(2)
    together = augment(x, steps, seed=1, epoch=2, samples=samples)
    assert together.shape == x.shape
    assert together.dtype == torch.float32
    assert together.min() >= 0
    assert together.max() <= 1
    for count in (1, 3):
        torch.set_num_threads(count)
        for size in (1, 5):
            starts = range(0, len(x), size)
            parts = [augment(x[i : i + size], steps, seed=1, epoch=2, samples=samples[i : i + size]) for i in starts]
            assert torch.equal(torch.cat(parts), together), f"{size} at a time, {count} threads"
    backwards = augment(x.flip(0), steps, seed=1, epoch=2, samples=samples[::-1])
    assert torch.equal(backwards.flip(0), together)


@pytest.mark.parametrize("steps", WHOLE)
def test_seed_epoch_and_sample_each_change_the_result(steps: tuple[Augmentation, ...]) -> None:
    x, samples = pictures(16, 3, 32, 32), np.arange(16)
    before = x.clone()
    first = augment(x, steps, seed=0, epoch=0, samples=samples)
    assert torch.equal(first, augment(x, steps, seed=0, epoch=0, samples=samples))
    for seed, epoch, shift in ((1, 0, 0), (0, 1, 0), (0, 0, 16)):
        other = augment(x, steps, seed=seed, epoch=epoch, samples=samples + shift)
        assert not torch.equal(first, other)
    assert torch.equal(x, before)


@pytest.mark.parametrize("each", AUGMENTATIONS, ids=lambda each: each.name)
def test_memory_layout_does_not_matter(each: Augmentation) -> None:
    x = pictures(6, 3, 20, 24)
    last = x.contiguous(memory_format=torch.channels_last)
    results = [augment(layout, always(each), seed=0, epoch=0, samples=np.arange(6)) for layout in (x, last)]
    assert torch.equal(*results)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_is_how_many_pictures_are_changed(share: float) -> None:
    x = pictures(2000, 1, 4, 4)
    flip = replace(policy("flip")[0], share=share)
    changed = (augment(x, (flip,), seed=0, epoch=0, samples=np.arange(2000)) != x).any(dim=(1, 2, 3))
    assert changed.double().mean().item() == pytest.approx(share, abs=0.03)
    expected = torch.from_numpy(uniforms(0, 0, np.arange(2000), 0, 1)[:, 0] < share)
    assert torch.equal(changed, expected)


def test_an_augmentation_gets_the_uniforms_of_its_place() -> None:
    x, samples = pictures(8, 3, 32, 32), np.arange(100, 108)
    light = policy("light")
    flipped, u = (torch.from_numpy(uniforms(5, 6, samples, place, 3)) for place in (0, 1))
    expected = torch.where((flipped[:, 0] < 0.5)[:, None, None, None], x.flip(3), x)
    assert torch.equal(augment(x, light, seed=5, epoch=6, samples=samples), geometry.crop(expected, u[:, 1:]))


def test_motions_that_follow_one_another_are_one_warp() -> None:
    x, samples = pictures(40, 3, 32, 32), np.arange(40)
    steps = policy("rotate,flip,lens")
    u = [torch.from_numpy(uniforms(0, 0, samples, place, 2))[:, 1:] for place in range(3)]
    chosen = torch.from_numpy(uniforms(0, 0, samples, 1, 1)[:, 0] < 0.5)
    flip = geometry.only(geometry.flip_motion(u[1], (32, 32)), chosen)
    expected = geometry.warp(x, [geometry.rotation(u[0], (32, 32)), flip, geometry.lens(u[2], (32, 32))])
    assert torch.equal(augment(x, steps, seed=0, epoch=0, samples=samples), expected)


@pytest.mark.parametrize("text", ["none", "jitter", "crop"])
def test_pictures_that_no_warp_changes_are_brought_to_the_size_last(text: str) -> None:
    x, samples = pictures(5, 3, 33, 47), np.arange(5)
    found = augment(x, policy(text), seed=1, epoch=2, samples=samples, size=(28, 40))
    changed = augment(x, policy(text), seed=1, epoch=2, samples=samples)
    torch.testing.assert_close(found, functional.interpolate(changed, (28, 40), mode="bilinear"), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "text",
    ["scale-crop", "standard", "jitter,lens,flip,rotate", "rotate,crop,blur,shear", "histogram,rotate"],
)
def test_the_first_warp_brings_pictures_to_the_size(text: str) -> None:
    fine = functional.interpolate(pictures(5, 3, 6, 6), (230, 230), mode="bicubic", align_corners=False).clamp(0, 1)
    made = {
        size: augment(fine, policy(text), seed=1, epoch=2, samples=np.arange(5), size=size)
        for size in ((230, 230), (200, 200))
    }
    again = functional.interpolate(made[230, 230], (200, 200), mode="bilinear")
    assert made[200, 200].shape == (5, 3, 200, 200)
    assert float((made[200, 200] - again).abs().mean()) < 0.002
    assert torch.equal(made[230, 230], augment(fine, policy(text), seed=1, epoch=2, samples=np.arange(5)))


def test_a_size_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a size of 1 pixel or more, got \(0, 5\)"):
        augment(pictures(1, 3, 8, 8), (), seed=0, epoch=0, samples=np.arange(1), size=(0, 5))


def test_a_picture_that_an_augmentation_passes_over_is_brought_to_the_size_too() -> None:
    x = pictures(50, 3, 12, 12)
    steps = (replace(policy("rotate")[0], share=0.5),)
    found = augment(x, steps, seed=1, epoch=2, samples=np.arange(50), size=(10, 10))
    still = torch.from_numpy(uniforms(1, 2, np.arange(50), 0, 1)[:, 0] >= 0.5)
    fitted = functional.interpolate(x, (10, 10), mode="bilinear")
    torch.testing.assert_close(found[still], fitted[still], atol=1e-5, rtol=0)
    assert float((found[~still] - fitted[~still]).abs().amax(dim=(1, 2, 3)).min()) > 0.01


def test_histogram_takes_another_picture_of_the_batch() -> None:
    x, samples = pictures(12, 3, 16, 16) ** torch.linspace(0.3, 3, 12)[:, None, None, None], np.arange(12)
    steps = (replace(policy("histogram")[0], share=0.5),)
    u = torch.from_numpy(uniforms(0, 0, samples, 0, 2))
    matched = colour.match_histograms(x, x[colour.partners(u[:, 1])])
    expected = torch.where((u[:, 0] < 0.5)[:, None, None, None], matched, x)
    assert torch.equal(augment(x, steps, seed=0, epoch=0, samples=samples), expected)


def test_pca_takes_the_components_it_is_given() -> None:
    x, samples = 0.4 + 0.1 * pictures(4, 3, 8, 8), np.arange(4)
    red = colour.ColourComponents(np.array([1.0, 0.0, 0.0]), np.eye(3))
    noise = augment(x, policy("pca", components=red), seed=0, epoch=0, samples=samples) - x
    assert noise[:, 1:].abs().max() == 0
    assert noise[:, 0].abs().min() > 0.001


def test_policies_are_what_the_table_says() -> None:
    assert policy("none") == ()
    assert [each.name for each in policy("light")] == ["flip", "crop"]
    assert [each.name for each in policy("standard")] == ["resized-crop", "flip", "jitter"]
    strong = {each.name: each.share for each in policy("strong")}
    assert {"rotate", "shear", "lens", "jpeg", "cutout", "pca"} <= set(strong)
    assert strong["jpeg"] == 0.2
    assert [(each.name, each.share) for each in policy(" jpeg, flip")] == [("jpeg", 0.5), ("flip", 0.5)]


def test_every_card_has_its_augmentation() -> None:
    assert [each.name for each in AUGMENTATIONS] == [card.name for card in policies.CARDS]
    assert len({card.name for card in policies.CARDS} | set(policies.POLICIES)) == 24


def test_no_policy_changes_nothing() -> None:
    x = pictures(2, 3, 8, 8)
    assert torch.equal(augment(x, policy("none"), seed=0, epoch=0, samples=np.arange(2)), x)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strnog", "did you mean 'strong'"), ("flip,jitte", "did you mean 'jitter'"), ("", "got ''"),
        ("flip,crop,flip", "'flip' twice"), ("light,rotate", "got 'light'"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        policy(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 4, 8, 8), torch.zeros(2, 3, 8), torch.zeros(2, 3, 8, 8).double(), torch.zeros(3, 3, 8, 8)]
)
def test_other_shapes_and_types_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match="augment needs float32 pictures"):
        augment(x, policy("light"), seed=0, epoch=0, samples=np.arange(2))
