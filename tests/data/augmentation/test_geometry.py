"""Where pixels go: exact places worked by hand, numpy and torchvision as oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from graft.data.augmentation import geometry
from graft.data.augmentation.geometry import Affine, Radial, warp


def numbered(*shape: int) -> Tensor:
    """Pictures in which no two pixels are alike, 0–1."""
    return torch.arange(math.prod(shape)).reshape(shape).float() / math.prod(shape)


def smooth(n: int, h: int, w: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, h), torch.linspace(0, 4, w), indexing="ij")
    return (0.5 + 0.5 * torch.sin(x + 2 * y)).expand(n, 1, h, w).contiguous()


def u_of(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def inside(x: Tensor, border: int) -> Tensor:
    return x[..., border:-border, border:-border]


def test_flip_exchanges_columns_and_is_its_own_inverse() -> None:
    x = numbered(2, 3, 4, 5)
    flipped = geometry.flip(x)
    assert all(torch.equal(flipped[..., i], x[..., 4 - i]) for i in range(5))
    assert torch.equal(geometry.flip(flipped), x)


def test_flip_as_a_motion_is_the_same_flip() -> None:
    x = numbered(3, 1, 8, 16)
    assert torch.equal(warp(x, [geometry.flip_motion(torch.zeros(3, 0).double(), (8, 16))]), geometry.flip(x))


def test_crop_shifts_by_whole_pixels_and_mirrors_the_edges() -> None:
    x = numbered(3, 1, 16, 8)  # shifts of −2 … 2 down, −1 … 1 right
    moved = geometry.crop(x, u_of((0.99, 0.99), (0.5, 0.5), (0.0, 0.0)))
    assert torch.equal(moved[0, 0, 2:, 1:], x[0, 0, :-2, :-1])  # 2 down, 1 right
    assert torch.equal(moved[0, 0, :2, 1:], x[0, 0, :2, :-1].flip(0))
    assert torch.equal(moved[0, 0, 2:, 0], x[0, 0, :-2, 0])
    assert torch.equal(moved[1], x[1])
    assert torch.equal(moved[2, 0, :-2, :-1], x[2, 0, 2:, 1:])  # 2 up, 1 left
    assert torch.equal(moved[2, 0, -2:, :-1], x[2, 0, -2:, 1:].flip(0))


@pytest.mark.parametrize("size", [(28, 28), (32, 48), (7, 1)])
def test_crop_is_numpys_symmetric_padding_and_a_window(size: tuple[int, int]) -> None:
    x = numbered(20, 3, *size)
    u = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = geometry.crop(x, u)
    pads = [-(-side // 8) for side in size]
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (pads[0],) * 2, (pads[1],) * 2), mode="symmetric")
    for i in range(20):
        top, left = (2 * pad - int(u[i, axis] * (2 * pad + 1)) for axis, pad in enumerate(pads))
        assert np.array_equal(moved[i].numpy(), padded[i, :, top : top + size[0], left : left + size[1]])


def test_crop_as_a_motion_is_the_same_shift() -> None:
    x = numbered(5, 2, 32, 16)
    u = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(warp(x, [geometry.crop_motion(u, (32, 16))]), geometry.crop(x, u))


@pytest.mark.parametrize(("side", "tolerance"), [(16, 0.0), (28, 1e-5)])  # powers of two have no rounding
def test_quarter_turns_are_numpys(side: int, tolerance: float) -> None:
    x = numbered(4, 1, side, side)
    turned = warp(x, [geometry.rotated(torch.tensor([0.0, 90.0, 180.0, -90.0]))])
    for i, quarters in enumerate((0, 1, 2, -1)):
        assert np.abs(turned[i, 0].numpy() - np.rot90(x[i, 0].numpy(), quarters)).max() <= tolerance


@pytest.mark.parametrize("size", [(33, 33), (24, 40)])
def test_rotation_is_torchvisions(size: tuple[int, int]) -> None:
    x = smooth(1, *size)
    for degrees in (-15.0, 4.0, 11.0):
        turned = warp(x, [geometry.rotated(torch.tensor([degrees]))])
        expected = functional.rotate(x, degrees, interpolation=InterpolationMode.BILINEAR)
        assert (inside(turned, 7) - inside(expected, 7)).abs().max() < 1e-5


def test_shear_translation_and_stretch_send_points_where_they_say() -> None:
    """In pictures whose value is the place itself, what a pixel shows is where it came from."""
    h, w = 21, 31
    down, across = torch.meshgrid(torch.arange(h) - 10.0, torch.arange(w) - 15.0, indexing="ij")
    places = torch.stack([across, down])[None]  # (1, 2, H, W) from the centre
    centre = (slice(None), slice(None), slice(6, 15), slice(9, 22))
    x, y = places[centre][:, 0], places[centre][:, 1]
    high, low = u_of((1.0, 1.0)), u_of((0.0, 0.0))
    tan = math.tan(math.radians(12))
    for motion, came_x, came_y in (
        (geometry.translation(high, (h, w)), x - 3.1, y - 2.1),  # a tenth of a side, right and down
        (geometry.stretch(high, (h, w)), x / 1.25, y / 1.25),
        (geometry.stretch(low, (h, w)), x * 1.25, y * 1.25),
        (geometry.shear(high, (h, w)), x - tan * y, y - tan * x),
    ):
        came = warp(places, [motion])[centre]
        assert (came[:, 0] - came_x).abs().max() < 1e-4
        assert (came[:, 1] - came_y).abs().max() < 1e-4


def test_lens_brings_points_from_r_times_1_plus_bend_r_squared() -> None:
    side = 41
    down, across = torch.meshgrid(torch.arange(side) - 20.0, torch.arange(side) - 20.0, indexing="ij")
    places = torch.stack([across, down])[None].expand(2, 2, side, side)
    came = warp(places, [Radial(torch.tensor([0.2, -0.2], dtype=torch.float64))])
    for i, bend in enumerate((0.2, -0.2)):
        for x, y in ((0, 0), (10, 0), (-5, 12), (14, 14)):
            factor = 1 + bend * (x * x + y * y) / (2 * 20**2)
            assert came[i, :, 20 + y, 20 + x].tolist() == pytest.approx([x * factor, y * factor], abs=1e-4)
    assert geometry.lens(u_of((0.0,), (0.5,), (1.0,)), (9, 9)).bend.tolist() == [-0.2, 0.0, 0.2]


def test_resized_crop_is_a_window_brought_back_to_size() -> None:
    x = smooth(1, 32, 32)
    whole = geometry.resized_crop_motion(u_of((1.0, 0.5, 0.3, 0.7)), (32, 32))  # all of the area, square
    assert torch.allclose(warp(x, [whole]), x, atol=1e-6)
    area = (16 / 32) ** 2  # a window of 16×16, below the usual range, at row 4 and column 12
    u = u_of(((area - 0.35) / 0.65, 0.5, 4 / 16, 12 / 16))
    cut = warp(x, [geometry.resized_crop_motion(u, (32, 32))])
    expected = functional.resize(x[:, :, 4:20, 12:28], [32, 32], antialias=False)
    assert (inside(cut, 1) - inside(expected, 1)).abs().max() < 1e-6


def test_resized_crop_keeps_to_the_stated_areas_and_aspects() -> None:
    u = torch.rand(2000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    matrix = geometry.resized_crop_motion(u, (60, 80)).matrix
    width, height = 80 * matrix[:, 0, 0], 60 * matrix[:, 1, 1]
    assert height.max() <= 60
    assert width.max() <= 80
    uncut = (width < 79.999) & (height < 59.999)
    areas, aspects = (width * height / 4800)[uncut], (width / height)[uncut]
    assert 0.35 <= areas.min() < 0.37
    assert 3 / 4 - 1e-9 <= aspects.min() < 0.77
    assert 1.3 < aspects.max() <= 4 / 3 + 1e-9
    left = matrix[:, 0, 2] + (80 - width) / 2
    assert left.min() > -1e-9  # no window reaches out of the picture
    assert (left + width).max() < 80 + 1e-9


def test_scale_crop_is_a_scaled_picture_and_a_window() -> None:
    x = smooth(1, 60, 90)
    u = u_of((0.0, 1.0, 0.0))  # short side 256: 224 / 256 of 60 is 52.5 pixels, lower left
    cut = geometry.scale_crop(x, u, size=56)  # the short side becomes 64
    expected = functional.resize(x, [64, 96], antialias=False)[:, :, 8:, :56]
    assert cut.shape == (1, 1, 56, 56)
    assert (cut - expected).abs().max() < 1e-5


def test_motions_that_follow_one_another_are_one_warp() -> None:
    x = smooth(2, 48, 40)
    first, second = (
        geometry.rotated(torch.tensor([10.0, -8.0])),
        Affine(torch.tensor([[[1.1, 0, 2], [0, 0.9, -1]]] * 2)),
    )
    bend = Radial(torch.tensor([0.1, -0.1]).double())
    together = warp(x, [first, bend, Affine(second.matrix.double())])
    in_turn = warp(warp(warp(x, [first]), [bend]), [Affine(second.matrix.double())])
    assert (inside(together, 9) - inside(in_turn, 9)).abs().max() < 0.01  # three resamplings blur
    swapped = warp(x, [Affine(second.matrix.double()), bend, first])
    assert (inside(together, 9) - inside(swapped, 9)).abs().max() > 0.05  # the order counts


def test_a_warp_of_whole_pixels_after_a_turn_is_exact() -> None:
    x = numbered(1, 1, 16, 16)
    turned = warp(
        x, [geometry.rotated(torch.tensor([90.0])), geometry.flip_motion(torch.zeros(1, 0).double(), (16, 16))]
    )
    assert np.array_equal(turned[0, 0].numpy(), np.fliplr(np.rot90(x[0, 0].numpy())))


def test_pictures_that_are_not_chosen_stay() -> None:
    x = numbered(2, 1, 16, 16)
    chosen = torch.tensor([True, False])
    for motion in (geometry.rotated(torch.tensor([9.0, 9.0])), Radial(torch.tensor([0.2, 0.2]).double())):
        warped = warp(x, [geometry.only(motion, chosen)])
        assert torch.equal(warped[:1], warp(x, [motion])[:1])
        assert torch.equal(warped[1], x[1])
