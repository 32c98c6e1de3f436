"""Likeness to the source: by hand, its interval by simulation, and its order on pictures whose answer is plain."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from features.ladders import trunk_of
from graft.data.decode import decode, read_picture
from graft.data.preprocess import fit_picture
from graft.features.likeness import LIKE_FROM, UNLIKE_BELOW, Likeness, likeness, pretrained_head, sample
from graft.features.trunk import FEATURES, open_trunk
from graft.models.weights import find_source
from graft.runtime.onnx import OnnxRunner
from graft.runtime.stream import ordered_map

HALF, TENTH = np.log([0.5, 0.5]), np.log([0.9, 0.1])
APART = 1 - (np.sqrt(0.5 * 0.9) + np.sqrt(0.5 * 0.1))  # squared Hellinger distance of (½, ½) and (0.9, 0.1)


def measured(logits: list[np.ndarray], labels: list[int], groups: list[int] | None = None) -> Likeness:
    """The likeness where the features are the logits."""
    x = np.array(logits, np.float32)
    k = x.shape[1]
    return likeness(
        x, np.eye(k, dtype=np.float32), np.zeros(k, np.float32), np.array(labels),
        np.array(groups if groups is not None else range(len(x))),
    )  # fmt: skip


def test_two_pictures_by_hand() -> None:
    assert measured([HALF, TENTH], [0, 1]).value == pytest.approx(APART, abs=1e-6)
    assert measured([HALF, HALF], [0, 1]).value == pytest.approx(0, abs=1e-6)
    assert measured([np.array([50.0, 0]), np.array([0, 50.0])], [0, 1]).value == pytest.approx(1, abs=1e-6)


def test_pairs_within_a_class_or_a_group_do_not_count() -> None:
    assert measured([HALF, HALF, TENTH], [0, 0, 1]).value == pytest.approx(APART, abs=1e-6)
    assert measured([HALF, HALF, TENTH], [0, 1, 1], [0, 0, 1]).value == pytest.approx(APART, abs=1e-6)
    assert measured([HALF, HALF, TENTH], [5, 5, 5]).value == pytest.approx(APART * 2 / 3, abs=1e-6)  # one class: all
    with pytest.raises(ValueError, match="two pictures that are not near-duplicates of each other"):
        measured([HALF, TENTH], [0, 1], [7, 7])


def test_the_weights_and_bias_are_those_of_a_linear_layer() -> None:
    weight, bias = np.array([[1.0, 2], [0, -1]], np.float32), np.array([0.5, -0.5], np.float32)
    x = np.array([[0.2, 0.4], [-1, 0.3]], np.float32)
    direct = measured([x[0] @ weight.T + bias, x[1] @ weight.T + bias], [0, 1])
    assert likeness(x, weight, bias, np.arange(2), np.arange(2)).value == pytest.approx(direct.value, abs=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Pictures are one of three distributions, drawn anew for each of 150 sets of 40."""
    kinds = np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    roots = np.sqrt(np.exp(kinds))
    truth = float((1 - roots @ roots.T).mean())
    draw = np.random.default_rng(0)
    found = [measured(list(kinds[draw.integers(0, 3, 40)]), [0] * 40) for _ in range(150)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.88 <= held <= 0.99
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_near_duplicates_widen_it() -> None:
    draw = np.random.default_rng(0)
    logits = list(draw.normal(size=(30, 4)) * 2)
    once = measured(logits, [0] * 30)
    assert measured(logits, [0] * 30) == once
    doubled = measured([*logits, *logits], [0] * 60, [*range(30), *range(30)])
    assert doubled.value == pytest.approx(once.value, abs=1e-6)
    assert doubled.high - doubled.low == pytest.approx(once.high - once.low, rel=0.15)


@pytest.mark.parametrize(
    ("value", "word"),
    [(1.0, "like"), (LIKE_FROM, "like"), (0.5, "in between"), (UNLIKE_BELOW, "in between"), (0.34, "unlike")],
)
def test_words(value: float, word: str) -> None:
    assert Likeness(value, 0, 1, 10).word == word


def test_a_sample_is_spread_over_the_classes() -> None:
    labels = np.array([0] * 3000 + [1] * 3000 + [2] * 600)[np.random.default_rng(0).permutation(6600)]
    some = sample(labels)
    assert len(some) == len(set(some)) == 512
    assert np.abs(np.bincount(labels[some]) - [232.7, 232.7, 46.5]).max() <= 2
    np.testing.assert_array_equal(sample(labels[:100]), np.arange(100))


def test_the_head_left_off_is_read_with_or_without_a_bias_and_as_a_convolution(tmp_path: Path) -> None:
    trunk = trunk_of(tmp_path, {"stem": 2, "features": 3})
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_file({"classifier.weight": weight[:, :, None, None].copy()}, trunk.weights)
    given, bias = pretrained_head(trunk)
    np.testing.assert_array_equal(given, weight)
    np.testing.assert_array_equal(bias, np.zeros(4))


def some(paths: list[Path], count: int) -> list[Path]:
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)]


@pytest.fixture(scope="module")
def sets(data_kit: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """40 pictures of each set of the kit, those that are arrays as PNG files."""
    folder = tmp_path_factory.mktemp("sets")
    images = data_kit("mnist-10k") / "t10k-images-idx3-ubyte.gz"
    digits = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
    drawings = [np.load(file, mmap_mode="r")[:7] for file in sorted(data_kit("quickdraw").glob("*.npy"))]
    with np.load(data_kit("pneumonia") / "pneumoniamnist.npz") as arrays:
        xrays = arrays["train_images"][:40]
    arrays_of = {
        "grey digits": digits.reshape(-1, 28, 28)[:40],
        "drawings": np.concatenate(drawings).reshape(-1, 28, 28)[:40],
        "X-rays": xrays,
    }
    found = {
        "photos of rubbish": some(sorted(data_kit("trashnet").rglob("*.jpg")), 40),
        "ImageNet": some(sorted(data_kit("imagenet-200").glob("*.jpg")), 40),
        "COCO": some(sorted(data_kit("tiny-coco").rglob("*.jpg")), 40),
        "blood cells": some(sorted(data_kit("bccd").rglob("*.jpg")), 40),
    }
    for name, pictures in arrays_of.items():
        found[name] = [folder / f"{name}-{number}.png" for number in range(len(pictures))]
        for path, picture in zip(found[name], pictures, strict=True):
            Image.fromarray(picture).save(path)
    return found


def test_the_order_is_right_where_the_answer_is_plain(sets: dict[str, list[Path]], session_cache: Path) -> None:
    trunk = open_trunk(find_source("efficientnet-lite0"), session_cache)
    run, preprocess = OnnxRunner(trunk.graph), trunk.preprocess("squash")
    weight, bias = pretrained_head(trunk)
    np.testing.assert_array_equal(weight, load_file(trunk.weights)["classifier.fc.weight"])

    def features(path: Path) -> np.ndarray:
        pixels = fit_picture(decode(read_picture(path), name=path.name, shortest=224).image, preprocess)
        return run(pixels[None])[0, trunk.columns(FEATURES)]

    found = {}
    for name, paths in sets.items():
        x = np.stack(list(ordered_map(features, paths)))
        found[name] = likeness(x, weight, bias, np.zeros(len(x), np.int64), np.arange(len(x)))
    photos = ("ImageNet", "COCO", "photos of rubbish")
    others = ("drawings", "grey digits", "X-rays", "blood cells")
    assert found["ImageNet"].low > found["COCO"].high
    assert found["COCO"].low > found["photos of rubbish"].high
    assert min(found[name].low for name in photos) > max(found[name].high for name in others)
    assert {found[name].word for name in photos} == {"like"}
    assert {found[name].word for name in others} == {"unlike"}
