"""Kept maps: what the whole network would have made of each view, computed once and found again by content."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from finetune.kept import MEAN, PREPROCESS, SIZE, STAGE, STD, built, pictures
from graft.data.augmentation.augment import Augmentation, policy
from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess, fit_picture
from graft.data.sources.scan import Sample
from graft.disk.table import Store
from graft.errors import BadPicture, GraftError, UsageError
from graft.features.trunk import open_trunk
from graft.finetune import lower as runtime_lower
from graft.finetune import maps as module
from graft.finetune.lower import Lower
from graft.finetune.maps import augmented, budgeted_views, keep_maps, maps_bytes, open_lower, seconds_per_view
from graft.models.build import build
from graft.models.network import Built, cut
from graft.models.weights import find_source

STANDARD = policy("standard")
ALWAYS_FLIP = tuple(replace(each, share=1.0) for each in policy("flip"))


@pytest.fixture(scope="module")
def whole() -> Built:
    return built()


@pytest.fixture(scope="module")
def lower(whole: Built, tmp_path_factory: pytest.TempPathFactory) -> Lower:
    return open_lower(whole, STAGE, SIZE, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return pictures(tmp_path_factory.mktemp("pictures"), 10)


class Counting:
    """The lower part, and how many pictures went through it."""

    def __init__(self, lower: Lower) -> None:
        self.pictures, self._run = 0, lower.run

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.pictures += len(pixels)
        return self._run(pixels)


def counted(lower: Lower) -> tuple[Lower, Counting]:
    counting = Counting(lower)
    return replace(lower, run=counting), counting  # type: ignore[arg-type]


def pixels_of(sample: Sample, preprocess: Preprocess) -> NDArray[np.uint8]:
    image = decode(read_picture(sample.path), name=sample.path, shortest=preprocess.size).image
    return fit_picture(image, preprocess)


def normalised(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(N, S, S, 3) 0–255 → (N, 3, S, S) as the network takes it."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std


def all_of(maps: module.Maps, view: int) -> torch.Tensor:
    """(n, C, h, w) of one view."""
    count = len(maps.keys)
    rows = maps.read(np.arange(count), np.full(count, view))
    return torch.from_numpy(rows).permute(0, 3, 1, 2).float()


def test_cached_is_uncached(whole: Built, lower: Lower, samples: list[Sample], tmp_path: Path) -> None:
    maps = keep_maps(samples, lower, PREPROCESS, Store(tmp_path))
    below, above = cut(whole.network, STAGE)
    with torch.inference_mode():
        x = normalised(np.stack([pixels_of(sample, PREPROCESS) for sample in samples]))
        exact, logits = below(x), whole.network(x)
        kept = all_of(maps, 0)
        assert maps.shape == exact.shape[1:]
        assert float((kept - exact).abs().max()) <= 1e-3 * float(exact.abs().max())
        assert float((above(kept) - logits).abs().max()) <= 1e-3 * float(logits.abs().max())
    assert float(logits.std(dim=0).min()) > 0.01  # so that the line before can tell pictures apart


def test_each_view_is_computed_once_and_found_again(lower: Lower, samples: list[Sample], tmp_path: Path) -> None:
    counting_lower, counting = counted(lower)

    def keep(views: int, augment: tuple[Augmentation, ...] = STANDARD, seed: int = 0) -> module.Maps:
        return keep_maps(samples, counting_lower, PREPROCESS, Store(tmp_path), views=views, policy=augment, seed=seed)

    ran = []
    found = []
    for arguments in ((1,), (3,), (3,), (4,), (2, STANDARD, 1), (2, ALWAYS_FLIP), (1, ())):
        before = counting.pictures
        found.append(keep(*arguments))  # type: ignore[arg-type]
        ran.append(counting.pictures - before)
        assert found[-1].computed == ran[-1]
    assert ran == [10, 20, 0, 10, 10, 10, 0]
    for view in range(3):
        assert torch.equal(all_of(found[1], view), all_of(found[3], view))
    views = [all_of(found[3], view) for view in range(4)] + [all_of(found[4], 1), all_of(found[5], 1)]
    assert all(not torch.allclose(one, other, atol=0.1) for i, one in enumerate(views) for other in views[:i])
    names = [each.name for each in found]
    assert names[1] == names[2]
    assert names[0] == names[6]
    assert len(set(names)) == 5


def test_augmented_views_alone_are_those_that_stand_behind_the_plain_one(
    lower: Lower, samples: list[Sample], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    alone = keep_maps(samples, lower, PREPROCESS, store, views=2, plain=False, policy=STANDARD)
    together = keep_maps(samples, lower, PREPROCESS, store, views=3, policy=STANDARD)
    assert (alone.views, alone.computed, together.computed) == (2, 20, 10)
    for view in (0, 1):
        assert torch.equal(all_of(alone, view), all_of(together, view + 1))
    assert alone.name != together.name
    with pytest.raises(UsageError, match="an augmentation to tell them apart, got 1 views"):
        keep_maps(samples, lower, PREPROCESS, store, plain=False)


@pytest.mark.parametrize("steps", [STANDARD, policy("strong")], ids=["standard", "strong"])
def test_a_view_follows_from_the_picture_whatever_stands_beside_it(
    lower: Lower, samples: list[Sample], tmp_path: Path, steps: tuple[Augmentation, ...]
) -> None:
    steps = tuple(replace(each, share=1.0) for each in steps)
    together = keep_maps(samples, lower, PREPROCESS, Store(tmp_path / "a"), views=2, policy=steps, seed=5)
    apart = keep_maps(samples[7:3:-1], lower, PREPROCESS, Store(tmp_path / "b"), views=2, policy=steps, seed=5)
    half = Store(tmp_path / "c")
    keep_maps(samples[2:5], lower, PREPROCESS, half)  # of these the second view is missing, of the others both
    mended = keep_maps(samples, lower, PREPROCESS, half, views=2, policy=steps, seed=5)
    assert mended.computed == 17
    for view in (0, 1):
        assert torch.equal(all_of(together, view)[[7, 6, 5, 4]], all_of(apart, view))
        assert torch.equal(all_of(together, view), all_of(mended, view))


def test_an_augmented_view_is_the_lower_part_of_the_augmented_picture(
    whole: Built, lower: Lower, samples: list[Sample], tmp_path: Path
) -> None:
    maps = keep_maps(samples, lower, PREPROCESS, Store(tmp_path), views=2, policy=ALWAYS_FLIP)
    large = np.stack([pixels_of(sample, replace(PREPROCESS, size=round(module.ENLARGED * SIZE))) for sample in samples])
    pixels = augmented(large, ALWAYS_FLIP, size=SIZE, seed=0, view=1, numbers=np.arange(10))
    mirrored = torch.from_numpy(large[:, :, ::-1].copy()).permute(0, 3, 1, 2).float()  # by hand
    by_hand = functional.interpolate(mirrored, (SIZE, SIZE), mode="bilinear").permute(0, 2, 3, 1)
    assert float((by_hand - torch.from_numpy(pixels)).abs().max()) <= 0.5 + 1e-3  # a level, rounded
    below, _ = cut(whole.network, STAGE)
    with torch.inference_mode():
        expected = below(normalised(pixels))
    assert float((all_of(maps, 1) - expected).abs().max()) <= 1e-3 * float(expected.abs().max())


def test_views_are_drawn_from_seed_view_and_picture() -> None:
    enlarged = np.random.default_rng(0).integers(0, 256, (1, 37, 37, 3), dtype=np.uint8)

    def drawn(seed: int, view: int, number: int) -> bytes:
        found = augmented(enlarged, STANDARD, size=SIZE, seed=seed, view=view, numbers=np.array([number]))
        assert (found.shape, found.dtype) == ((1, SIZE, SIZE, 3), np.uint8)
        return found.tobytes()

    assert drawn(1, 1, 7) == drawn(1, 1, 7)
    assert len({drawn(1, 1, 7), drawn(2, 1, 7), drawn(1, 2, 7), drawn(1, 1, 2**32 - 1)}) == 4


def test_the_bytes_said_beforehand_are_those_on_the_disk(lower: Lower, samples: list[Sample], tmp_path: Path) -> None:
    keep_maps(samples, lower, PREPROCESS, Store(tmp_path), views=2, policy=ALWAYS_FLIP)
    (segment,) = tmp_path.glob("*/*.npy")
    headers = 2 * 128
    assert segment.stat().st_size == maps_bytes(10, lower.shape, 2) + headers
    assert maps_bytes(2527, (40, 28, 28), 4) == 2527 * 4 * (62_720 + 16)


def test_maps_that_do_not_fit_are_refused_before_the_first(lower: Lower, samples: list[Sample], tmp_path: Path) -> None:
    counting_lower, counting = counted(lower)
    store = Store(tmp_path, limit=maps_bytes(10, lower.shape, 1) - 1)
    with pytest.raises(GraftError, match=r"maps of 10 pictures in 1 view take .* GB on the") as caught:
        keep_maps(samples, counting_lower, PREPROCESS, store)
    assert "\n" not in str(caught.value)
    assert counting.pictures == 0
    assert list(tmp_path.iterdir()) == []


def test_maps_are_refused_where_those_beside_them_would_not_fit(
    lower: Lower, samples: list[Sample], tmp_path: Path
) -> None:
    counting_lower, counting = counted(lower)
    store = Store(tmp_path, limit=maps_bytes(10, lower.shape, 1) + 1000)
    with pytest.raises(GraftError, match=r"maps of 10 pictures in 1 view, with those beside them, take .* GB on the"):
        keep_maps(samples, counting_lower, PREPROCESS, store, beside=1001)
    assert counting.pictures == 0
    keep_maps(samples, counting_lower, PREPROCESS, store, beside=1000)
    assert counting.pictures == 10


def test_rows_larger_than_what_waits_in_memory(
    lower: Lower, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = keep_maps(samples, lower, PREPROCESS, Store(tmp_path / "a"), views=2, policy=ALWAYS_FLIP)
    monkeypatch.setattr(module, "_SAVE_BYTES", maps_bytes(3, lower.shape, 1))
    found = keep_maps(samples, lower, PREPROCESS, Store(tmp_path / "b"), views=2, policy=ALWAYS_FLIP)
    assert len(list((tmp_path / "b").glob("*/*.npy"))) == math.ceil(20 / 3)
    assert all(torch.equal(all_of(found, view), all_of(expected, view)) for view in (0, 1))


def test_what_cannot_be_kept_is_refused(lower: Lower, samples: list[Sample], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UsageError, match="views must be 1, or more with an augmentation"):
        keep_maps(samples, lower, PREPROCESS, store, views=2)
    with pytest.raises(UsageError, match="take pictures of side 32, got side 40"):
        keep_maps(samples, lower, replace(PREPROCESS, size=40), store)
    large = replace(lower, run=lambda _: np.full((1, *lower.shape), 70_000, np.float32))  # type: ignore[arg-type]
    with pytest.raises(GraftError, match=r"must stay within ±65,504 to be kept, got 70,000 for .*; cut the network"):
        keep_maps(samples, large, PREPROCESS, store)
    unsound = replace(lower, run=lambda _: np.full((1, *lower.shape), np.nan, np.float32))  # type: ignore[arg-type]
    with pytest.raises(GraftError, match="got nan"):
        keep_maps(samples, unsound, PREPROCESS, store)


def test_a_picture_that_changes_meanwhile_is_not_kept_under_its_old_name(
    lower: Lower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = pictures(tmp_path / "pictures", 2)
    make_room = Store.make_room

    def overwrite(store: Store, size: int, *, what: str) -> None:
        Path(some[0].path).write_bytes(Path(some[1].path).read_bytes())
        make_room(store, size, what=what)

    monkeypatch.setattr(Store, "make_room", overwrite)
    with pytest.raises(BadPicture, match="changed while it was being learnt from"):
        keep_maps(some, lower, PREPROCESS, Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("left", "each", "epochs", "expected"),
    [
        (300.0, 10.0, 20, 10),  # a third of the time left
        (300.0, 10.0, 6, 6),  # a view that no epoch sees is time lost
        (300.0, 101.0, 6, 1),  # the plain one comes in any case
        (-5.0, 1.0, 6, 1),
        (math.inf, 10.0, 8, 8),
        (299.9, 10.0, 20, 9),
    ],
)
def test_budgeted_views(left: float, each: float, epochs: int, expected: int) -> None:
    assert budgeted_views(left, each, epochs) == expected


def test_budgeted_views_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"seconds and epochs above 0, got 0\.0 and 3"):
        budgeted_views(10.0, 0.0, 3)


def test_seconds_per_view_count_all_pictures(lower: Lower, samples: list[Sample]) -> None:
    counting_lower, counting = counted(lower)
    once = seconds_per_view(samples, counting_lower, PREPROCESS, policy=STANDARD)
    assert counting.pictures == 30
    assert 0 < once < 30
    assert seconds_per_view(samples * 50, counting_lower, PREPROCESS, policy=STANDARD) > 5 * once
    assert counting.pictures < 30 + 500


def test_lite0_is_cut_out_of_its_trunk_without_an_export(
    session_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("exported, where the trunk has it")

    monkeypatch.setattr(runtime_lower, "export_onnx", refuse)
    source = find_source("efficientnet-lite0")
    trunk, lite = open_trunk(source, session_cache), build(source)
    lower = open_lower(lite, "blocks.3", 224, tmp_path, trunk=trunk)
    assert lower.shape == (40, 28, 28)
    some = pictures(tmp_path / "pictures", 2)
    preprocess = trunk.preprocess("squash")
    maps = keep_maps(some, lower, preprocess, Store(tmp_path / "store"))
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (lite.mean, lite.std))
    pixels = torch.from_numpy(np.stack([pixels_of(sample, preprocess) for sample in some]))
    with torch.inference_mode():
        logits = lite.network((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
        found = cut(lite.network, "blocks.3")[1](all_of(maps, 0))
    assert float((found - logits).abs().max()) <= 1e-3 * float(logits.abs().max())
