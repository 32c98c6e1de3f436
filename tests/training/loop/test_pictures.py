"""Pictures to train on, and their normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graft.errors import UsageError
from graft.training.loop.pictures import Pictures, from_array
from graft.training.recipe import normalize
from graft.training.recipe.normalize import Normalization, channel_statistics, mean_image, normalization_of

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (50, 6, 5, 3)).astype(np.uint8)
GREY = RANDOM.integers(0, 256, (50, 6, 5)).astype(np.uint8)
LABELS = RANDOM.integers(0, 4, 50)


def test_taken_pictures_keep_their_numbers() -> None:
    part = from_array(COLOUR, LABELS).take(np.array([7, 3, 9])).take(np.array([2, 0]))
    assert part.ids.tolist() == [9, 7]
    assert part.labels.tolist() == LABELS[[9, 7]].tolist()
    assert (part.read(np.array([1, 0, 1])) == COLOUR[[7, 9, 7]]).all()
    assert len(part) == 2


def test_grey_in_colour_is_grey_three_times() -> None:
    pictures = from_array(GREY, LABELS)
    assert pictures.shape == (6, 5, 1)
    colour = pictures.in_colour()
    assert colour.shape == (6, 5, 3)
    assert (colour.read(np.array([4])) == GREY[4, :, :, None]).all()
    assert from_array(COLOUR, LABELS).in_colour().shape == (6, 5, 3)


def test_padded_pictures_stand_in_the_middle_of_black() -> None:
    padded = from_array(GREY, LABELS).padded(9)
    pixels = padded.read(np.array([2]))[0, :, :, 0]
    assert padded.shape == (9, 9, 1)
    assert (pixels[1:7, 2:7] == GREY[2]).all()
    assert pixels.sum() == GREY[2].sum()
    with pytest.raises(UsageError, match="pictures of 6×5 pixels need a square of at least that, got side 5"):
        from_array(GREY, LABELS).padded(5)


def test_arrays_of_other_kinds_are_refused() -> None:
    with pytest.raises(UsageError, match="must be uint8"):
        from_array(COLOUR.astype(np.float32), LABELS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="got 50 pictures and 49 labels"):
        from_array(COLOUR, LABELS[1:])
    with pytest.raises(UsageError, match="1 or 3 channels, got 4"):
        from_array(np.zeros((2, 6, 5, 4), np.uint8), LABELS[:2])
    with pytest.raises(UsageError, match="labels count from 0, got -1"):
        from_array(COLOUR, LABELS - LABELS.max() - 1 + LABELS.max())
    with pytest.raises(UsageError, match="one label and one number for each"):
        Pictures(np.zeros(3, np.int64), np.zeros(2, np.int64), (1, 1, 1), lambda wanted: GREY[wanted])


def test_channel_statistics_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "_CHUNK", 7)
    found = channel_statistics(from_array(COLOUR, LABELS))
    scaled = COLOUR.astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.std, scaled.std(axis=(0, 1, 2)), rtol=1e-6)


def test_mean_image_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "_CHUNK", 7)
    found = mean_image(from_array(COLOUR, LABELS))
    scaled = (COLOUR.astype(np.float64) / 255).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found.mean, scaled.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.std, (scaled - scaled.mean(axis=0)).std(axis=(0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["channels", "mean-image"])
def test_normalised_pictures_have_mean_0_and_deviation_1(kind: str) -> None:
    pictures = from_array(COLOUR, LABELS)
    x = torch.from_numpy(COLOUR / np.float32(255)).permute(0, 3, 1, 2)
    out = normalization_of(pictures, kind).normalize(x)
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(dim=(0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=0)


def test_none_changes_nothing_and_one_value_divides_by_1() -> None:
    pictures = from_array(np.full((3, 4, 4), 51, np.uint8), LABELS[:3])
    x = torch.full((3, 1, 4, 4), 0.2)
    assert torch.equal(normalization_of(pictures, "none").normalize(x), x)
    torch.testing.assert_close(normalization_of(pictures, "channels").normalize(x), torch.zeros(3, 1, 4, 4))


def test_bad_normalisations_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'mean-image'"):
        normalization_of(from_array(GREY, LABELS), "mean_image")
    with pytest.raises(UsageError, match="measured on pictures, got none"):
        channel_statistics(from_array(GREY[:0], LABELS[:0]))
    with pytest.raises(UsageError, match="a deviation \\(C,\\) above 0"):
        Normalization(np.zeros(3, np.float32), np.zeros(3, np.float32))
