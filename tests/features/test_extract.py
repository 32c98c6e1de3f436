"""Extraction: computed once, remembered by content, and equal to a plain forward pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess, fit_picture
from graft.data.sources.scan import Sample
from graft.disk.table import Store
from graft.errors import BadPicture
from graft.features import extract as module
from graft.features.extract import Features, decode_once, extract

PREPROCESS = Preprocess(8, "squash", "bilinear")
WIDTH = 6


class Counting:
    """A trunk of six numbers a picture, and how many pictures went through it; the sum is exact in any batch."""

    def __init__(self) -> None:
        self.pictures = 0

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.pictures += len(pixels)
        halves = pixels.reshape(len(pixels), 2, 32, 3).mean(axis=2, dtype=np.float64)  # (N, 2, 3)
        return halves.reshape(len(pixels), WIDTH).astype(np.float32)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return pictures(tmp_path / "pictures", range(12))


def pictures(folder: Path, numbers: range) -> list[Sample]:
    folder.mkdir(exist_ok=True)
    found = []
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        path = folder / f"{number:03}.png"
        Image.fromarray(pixels).save(path)
        found.append(Sample(str(path), number % 2))
    return found


def run(
    samples: list[Sample], tmp_path: Path, *, on_gpu: bool = False, strict: bool = False, trunk_key: str = "key"
) -> tuple[Features, Counting]:
    trunk = Counting()
    store = Store(tmp_path / "store")
    found = extract(
        samples, trunk, PREPROCESS, store, trunk_key=trunk_key, width=WIDTH, on_gpu=on_gpu, strict=strict
    )  # fmt: skip
    return found, trunk


def matrix(features: Features) -> NDArray[np.float32]:
    return features.rows(np.arange(len(features.samples))).read(slice(None))


@pytest.mark.parametrize("on_gpu", [False, True])
def test_features_are_those_of_a_plain_pass_in_the_samples_order(
    samples: list[Sample], tmp_path: Path, on_gpu: bool
) -> None:
    found, _ = run(samples, tmp_path, on_gpu=on_gpu)
    pixels = [fit_picture(decode(read_picture(s.path), name=s.path).image, PREPROCESS) for s in samples]
    expected = Counting()(np.stack(pixels))
    assert found.samples == tuple(samples)
    assert found.computed == 12
    assert found.problems == ()
    np.testing.assert_array_equal(matrix(found), expected.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found.rows(np.array([7, 2])).read(slice(None)), matrix(found)[[7, 2]])
    assert found.facts["width"].tolist() == [24] * 12
    assert found.key_array().shape == (12, 16)
    assert found.limit > 0


def test_a_second_pass_computes_nothing(samples: list[Sample], tmp_path: Path) -> None:
    first, _ = run(samples, tmp_path)
    second, _ = run(samples, tmp_path)
    assert (first.computed, second.computed) == (12, 0)
    np.testing.assert_array_equal(matrix(first), matrix(second))
    assert first.facts.tobytes() == second.facts.tobytes()
    assert first.keys == second.keys


def test_ten_more_pictures_cost_ten(samples: list[Sample], tmp_path: Path) -> None:
    run(samples, tmp_path)
    more, _ = run([*pictures(tmp_path / "more", range(100, 110)), *samples], tmp_path)
    assert more.computed == 10
    assert len(more.samples) == 22
    np.testing.assert_array_equal(matrix(more)[10:], matrix(run(samples, tmp_path)[0]))


def test_a_file_that_changed_is_computed_anew_even_with_its_old_time(samples: list[Sample], tmp_path: Path) -> None:
    before, _ = run(samples, tmp_path)
    path = Path(samples[3].path)
    times = path.stat()
    Image.new("RGB", (24, 20), (10, 20, 30)).save(path)
    os.utime(path, (times.st_atime, times.st_mtime))
    after, _ = run(samples, tmp_path)
    assert after.computed == 1
    np.testing.assert_array_equal(matrix(after)[3], [10, 20, 30, 10, 20, 30])
    others = np.arange(12) != 3
    np.testing.assert_array_equal(matrix(after)[others], matrix(before)[others])


def test_a_file_that_moved_is_not(samples: list[Sample], tmp_path: Path) -> None:
    run(samples, tmp_path)
    moved = Path(samples[0].path).rename(tmp_path / "elsewhere.png")
    assert run([Sample(str(moved), 1), *samples[1:]], tmp_path)[0].computed == 0


def test_other_weights_or_pixels_are_other_features(samples: list[Sample], tmp_path: Path) -> None:
    run(samples, tmp_path)
    assert run(samples, tmp_path, trunk_key="other")[0].computed == 12
    padded = extract(
        samples, Counting(), Preprocess(8, "pad", "bilinear"), Store(tmp_path / "store"), trunk_key="key", width=WIDTH
    )
    assert padded.computed == 12


@pytest.mark.parametrize("on_gpu", [False, True])
def test_pictures_that_cannot_be_read_become_problems(samples: list[Sample], tmp_path: Path, on_gpu: bool) -> None:
    Path(samples[4].path).write_bytes(b"<html>")
    Path(samples[9].path).unlink()
    found, _ = run(samples, tmp_path, on_gpu=on_gpu)
    assert found.samples == tuple(s for i, s in enumerate(samples) if i not in (4, 9))
    assert [problem.path for problem in found.problems] == [samples[4].path, samples[9].path]
    assert all(problem.reason for problem in found.problems)
    assert found.computed == len(found.keys) == len(found.facts) == 10


def test_strict_stops_at_the_first_that_cannot_be_read(samples: list[Sample], tmp_path: Path) -> None:
    Path(samples[4].path).write_bytes(b"<html>")
    with pytest.raises(BadPicture, match=r"004\.png"):
        run(samples, tmp_path, strict=True)


def test_no_readable_picture_at_all(tmp_path: Path) -> None:
    found, _ = run([Sample(str(tmp_path / "absent.png"), 0)], tmp_path)
    assert (found.samples, found.computed, len(found.facts), found.limit) == ((), 0, 0, 0.0)


def test_what_was_done_before_a_crash_is_kept(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.features.extract._SAVE_EVERY", 4)
    Path(samples[10].path).write_bytes(b"<html>")
    with pytest.raises(BadPicture):
        run(samples, tmp_path, strict=True)
    assert run(samples, tmp_path)[0].computed == 3  # of eleven, eight were saved


def test_many_rows_are_streamed_and_equal(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = run(samples, tmp_path)
    kept = found.rows(np.arange(12)).read(slice(3, 9))
    monkeypatch.setattr("graft.features.extract._IN_MEMORY", 0)
    np.testing.assert_array_equal(found.rows(np.arange(12)).read(slice(3, 9)), kept)


def test_features_of_real_photos_equal_pytorchs(data_kit: Callable[[str], Path], session_cache: Path) -> None:
    """Through decoder, ONNX and float16, against a plain forward pass of the unfused PyTorch network."""
    import torch

    from graft.features.trunk import FEATURES, open_trunk, runner
    from graft.models.build import build
    from graft.models.network import trunk as lower
    from graft.models.weights import find_source

    source = find_source("efficientnet-lite0")
    trunk = open_trunk(source, session_cache)
    preprocess = trunk.preprocess("squash")
    photos = [Sample(str(path), 0) for path in sorted(data_kit("imagenet-200").glob("*.jpg"))[:12]]
    found = extract(
        photos, runner(trunk, source, "cpu"), preprocess, Store(session_cache / "photos"), trunk_key=trunk.key,
        width=trunk.row_width,
    )  # fmt: skip
    given = found.rows(np.arange(12), trunk.columns(FEATURES)).read(slice(None))
    pixels = np.stack([fit_picture(decode(read_picture(s.path), name=s.path).image, preprocess) for s in photos])
    with torch.inference_mode():
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        expected = lower(build(source).network)(x).numpy()
    assert expected.shape == (12, 1280)
    # half precision keeps 11 bits; the two runtimes differ by 1e-4 of the largest at the most; and a JPEG decoded
    # at a reduced size may not be what is compared here, so photos are small
    assert np.abs(given - expected).max() <= (2.0**-11 + 1e-4) * np.abs(expected).max()


@pytest.mark.parametrize("in_memory", [24 * 1024**2, 0])
def test_a_part_of_each_row_and_several_side_by_side(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    found, _ = run(samples, tmp_path)
    whole = matrix(found)
    monkeypatch.setattr(module, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(module, "_SAVE_EVERY", 5)  # more than one turn
    which = np.array([11, 0, 3, 4, 5, 6, 7])
    one = found.rows(which, slice(2, 5))
    assert (one.count, one.width) == (7, 3)
    np.testing.assert_array_equal(one.read(slice(1, None)), whole[which[1:], 2:5])
    several = found.rows(which, (slice(4, 6), slice(0, 1)))
    assert several.width == 3
    np.testing.assert_array_equal(several.read(np.array([6, 0])), whole[[7, 11]][:, [4, 5, 0]])


def test_decoding_once_keeps_the_pixels_that_the_network_would_get(samples: list[Sample], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = decode_once(samples, PREPROCESS, store)
    again = decode_once(samples, PREPROCESS, Store(tmp_path / "store"))
    assert (first.computed, again.computed) == (12, 0)
    read = again.pixels(np.array([7, 2]))
    expected = [fit_picture(Image.open(samples[i].path), PREPROCESS) for i in (2, 7, 7)]
    np.testing.assert_array_equal(read(np.array([1, 0, 0])), expected)
    assert read(np.array([0])).dtype == np.uint8


def test_pixels_too_many_for_memory_are_read_from_the_disk(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = decode_once(samples, PREPROCESS, Store(tmp_path / "store"))
    in_memory = found.pixels(np.arange(12))(np.array([11, 3]))
    monkeypatch.setattr(module, "_PIXELS_IN_MEMORY", 0)
    np.testing.assert_array_equal(found.pixels(np.arange(12))(np.array([11, 3])), in_memory)
