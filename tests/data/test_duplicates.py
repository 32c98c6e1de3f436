"""Exact and near-duplicates, against synthetic edits, brute force with SciPy, and real photos that must stay apart."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage
from scipy.sparse import csgraph

from graft.data import duplicates
from graft.data.decode import Picture, decode, read_picture
from graft.data.duplicates import exact_groups, near_groups
from graft.data.facts import FACTS, facts_of


def record(image: Image.Image) -> NDArray[np.void]:
    return facts_of(Picture(image, image.width, image.height, "PNG", "RGB"))


def scene(rng: np.random.Generator, width: int = 160, height: int = 120) -> Image.Image:
    """A coloured picture with detail of a few per cent of its side, as photos have."""
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (6, 6, 0))
    return Image.fromarray((127.5 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8))


def records(fingerprints: NDArray[np.floating]) -> NDArray[np.void]:
    """Records of different pictures with these fingerprints, (n, 256)."""
    facts = np.zeros(len(fingerprints), FACTS)
    facts["fingerprint"] = fingerprints.round().clip(-127, 127)
    facts["pixels"] = np.random.default_rng(len(facts)).integers(0, 256, (len(facts), 16))
    return facts


def partition(groups: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == g).tolist()) for g in np.unique(groups)}


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(BytesIO(stream.getvalue())).convert("RGB")


def cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = share / 2 * image.width, share / 2 * image.height
    return image.crop((round(x), round(y), round(image.width - x), round(image.height - y)))


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 6, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg 95": lambda image: as_jpeg(image, 95),
    "jpeg 40": lambda image: as_jpeg(image, 40),
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "double": lambda image: image.resize((image.width * 2, image.height * 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.9),
    "crop 2 %": lambda image: cropped(image, 0.02),
    "crop 4 %": lambda image: cropped(image, 0.04),
    "noise": noisy,
}


def test_exact_groups_count_up_in_order_of_first_appearance() -> None:
    facts = np.zeros(5, FACTS)
    facts["pixels"][:, 0] = [9, 4, 9, 1, 4]
    assert exact_groups(facts).tolist() == [0, 1, 0, 2, 1]
    with pytest.raises(ValueError, match="records of graft"):
        exact_groups(np.zeros(3))


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_joins_its_original_and_nothing_else(edit: str) -> None:
    originals = [scene(np.random.default_rng(i)) for i in range(40)]
    facts = np.array([record(image) for image in originals] + [record(EDITS[edit](image)) for image in originals])
    assert near_groups(facts).tolist() == [*range(40), *range(40)]


def test_blank_pictures_are_near_nothing_but_themselves() -> None:
    blanks = [Image.new("RGB", (64, 64), (level, level, level)) for level in (0, 1, 128, 254, 255, 255)]
    facts = np.array([record(image) for image in blanks])
    assert near_groups(facts).tolist() == [0, 1, 2, 3, 4, 4]


def test_no_pictures_make_no_groups() -> None:
    assert near_groups(np.zeros(0, FACTS)).shape == (0,)


@pytest.mark.parametrize("block", [7, 64, 2048])
def test_groups_are_those_of_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    rng = np.random.default_rng(1)
    prints = rng.normal(0, 40, (300, 256))
    prints[100:200] = prints[:100] + rng.normal(0, 12, (100, 256))
    prints[200:230] = prints[150:180] + rng.normal(0, 18, (30, 256))  # some reach the middle one, not the first
    facts = records(prints)
    units = facts["fingerprint"] / np.linalg.norm(facts["fingerprint"].astype(float), axis=1)[:, None]
    match = units @ units.T >= 0.91
    _, expected = csgraph.connected_components(match)
    assert 150 < expected.max() + 1 < 230  # so the case has pairs on both sides of the threshold
    assert partition(near_groups(facts)) == partition(expected)
    _, degrees = duplicates._linked(facts["fingerprint"], 0.91)
    assert degrees.tolist() == (match.sum(axis=1) - 1).tolist()


def test_groups_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(2)
    prints = rng.normal(0, 40, (200, 256)) + 55 * rng.normal(size=256)  # alike as a whole: the threshold adapts
    prints[100:] = prints[:100] + rng.normal(0, 16, (100, 256))
    facts = records(prints)
    shuffle = rng.permutation(200)
    expected = {frozenset(shuffle[list(group)].tolist()) for group in partition(near_groups(facts[shuffle]))}
    assert partition(near_groups(facts)) == expected
    assert len(expected) == 100


def test_pictures_that_are_all_alike_stay_apart() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(0, 40, 256)
    prints = common + rng.normal(0, 1, (400, 1)) * 8 + rng.normal(0, 12, (400, 256))  # cosines about 0.92
    prints[1] = prints[0]
    prints[1, 0] += 9
    assert sorted(map(len, partition(near_groups(records(prints)))))[-2:] == [1, 2]


def test_a_chain_of_lookalikes_is_cut_and_a_clique_of_copies_is_not() -> None:
    rng = np.random.default_rng(4)
    strangers = rng.normal(0, 40, (600, 256))
    chain = [rng.normal(0, 40, 256)]
    for _ in range(199):
        chain.append(0.93 * chain[-1] + rng.normal(0, 40 * np.sqrt(1 - 0.93**2), 256))  # neighbours: cosine 0.93
    copies = rng.normal(0, 40, 256) + rng.normal(0, 8, (100, 256))  # cosines about 0.96
    groups = near_groups(records(np.concatenate([strangers, chain, copies])))
    roots, _ = duplicates._linked(records(np.array(chain))["fingerprint"], 0.91)
    assert np.bincount(roots).max() > 100  # without the cut, it is one group
    assert np.bincount(groups[600:800]).max() <= 32
    assert len(set(groups[800:].tolist())) == 1
    assert np.isin(groups[:600], groups[600:]).sum() == 0


@pytest.mark.parametrize(
    ("folder", "pictures", "expected"),
    [
        ("imagenet-200", 200, []),
        ("bccd/JPEGImages", 364, [("BloodImage_00037.jpg", "BloodImage_00038.jpg")]),
    ],
)
def test_different_photos_stay_apart(
    data_kit: Callable[[str], Path], folder: str, pictures: int, expected: list[tuple[str, ...]]
) -> None:
    paths = sorted(data_kit(folder).glob("*.jpg"))
    assert len(paths) == pictures
    facts = np.array([facts_of(decode(read_picture(path), name=path.name, shortest=64)) for path in paths])
    merged = [tuple(paths[i].name for i in sorted(group)) for group in partition(near_groups(facts)) if len(group) > 1]
    assert merged == expected
