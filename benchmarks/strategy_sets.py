"""Five sets made from the folder that GRAFT_DATA names, which differ in what they show and in likeness to ImageNet.

Each is a folder of pictures and a list of them with a training part, at most FULL a class, and a test part, at most
TEST a class, that no cut of the training part changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import DATA
from benchmarks.splits import Listed, first_of_each, graft_split, read_split, write_split

FULL, TEST = 600, 200
TRASHNET: Final = "trashnet"
_QUICKDRAW_TRAIN: Final = 2_000  # of the 3,000 drawings of each class
_CLOTHES: Final = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_LEAST_CELL: Final = 8  # pixels: side of the smallest box that is taken


@dataclass(frozen=True)
class LabelledSet:
    """Where a set's pictures lie, and all of them with their parts, shuffled."""

    folder: Path
    pictures: tuple[Listed, ...]

    def cut(self, per_class: int | None) -> tuple[Listed, ...]:
        """The test part with `per_class` training pictures of each class, or all; smaller cuts lie within larger."""
        train = tuple(picture for picture in self.pictures if picture.part == "train")
        test = tuple(picture for picture in self.pictures if picture.part == "test")
        return first_of_each(train, per_class or FULL) + first_of_each(test, TEST)


def make(name: str, build: Path) -> LabelledSet:
    """The set of that name; its list, and the pictures that lie there in other forms, are written below `build`."""
    folder, listed = DATA / name if name == TRASHNET else build / name, build / f"{name}.csv"
    if not listed.exists():
        pictures = _trashnet() if name == TRASHNET else tuple(_written(folder, MAKERS[name]))
        order = np.random.default_rng(0).permutation(len(pictures))
        write_split(listed, (pictures[i] for i in order))
    return LabelledSet(folder, read_split(listed))


def _trashnet() -> tuple[Listed, ...]:
    """Photos of rubbish, by graft's own split of seed 0."""
    with tempfile.TemporaryDirectory() as cache:
        pictures = graft_split(DATA / TRASHNET, Path(cache), seed=0)
    return tuple(replace(p, part="train" if p.part == "val" else p.part) for p in pictures)


Drawn = Iterator[tuple[str, str, NDArray[np.uint8]]]
"""(label, part, pixels) of each picture of a set."""


def _written(folder: Path, maker: Callable[[], Drawn]) -> Iterator[Listed]:
    """Write the pictures as PNG files and list them."""
    for number, (label, part, pixels) in enumerate(maker()):
        path = Path(part) / label / f"{number:05}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
        yield Listed(str(path), label, part)


def _drawings() -> Drawn:
    """Drawings of six things in white lines on black, 28²."""
    for file in sorted((DATA / "quickdraw").glob("*.npy")):
        pixels = np.load(file).reshape(-1, 28, 28)
        yield from ((file.stem, "train", drawing) for drawing in pixels[:_QUICKDRAW_TRAIN][:FULL])
        yield from ((file.stem, "test", drawing) for drawing in pixels[_QUICKDRAW_TRAIN:][:TEST])


def _clothes() -> Drawn:
    """Fashion-MNIST: clothes of ten kinds, grey, 28²; its own training and test parts."""
    with np.load(DATA / "fashion-mnist" / "fashion_mnist.npz") as file:
        for part, most in (("train", FULL), ("test", TEST)):
            yield from _few(file[f"x_{part}"], file[f"y_{part}"], part, _CLOTHES, most)


def _chests() -> Drawn:
    """X-rays of chests with and without pneumonia, grey, 28²; its own parts, validation joined to training."""
    classes = ("normal", "pneumonia")
    with np.load(DATA / "pneumonia" / "pneumoniamnist.npz") as file:
        pixels = np.concatenate([file["train_images"], file["val_images"]])
        labels = np.concatenate([file["train_labels"], file["val_labels"]])
        yield from _few(pixels, labels.ravel(), "train", classes, FULL)
        yield from _few(file["test_images"], file["test_labels"].ravel(), "test", classes, TEST)


def _few(pixels: NDArray[np.uint8], labels: NDArray[Any], part: str, classes: tuple[str, ...], most: int) -> Drawn:
    for label, name in enumerate(classes):
        yield from ((name, part, picture) for picture in pixels[labels == label][:most])


def _cells() -> Drawn:
    """Cells of three kinds cut out of microscope photos by their boxes; whole photos stand in one part."""
    kit = DATA / "bccd"
    for part, listed in (("train", "trainval"), ("test", "test")):
        seen: dict[str, int] = {}
        for photo in (kit / "ImageSets" / "Main" / f"{listed}.txt").read_text().split():
            with Image.open(kit / "JPEGImages" / f"{photo}.jpg") as picture:
                picture.load()
            for cell in ET.parse(kit / "Annotations" / f"{photo}.xml").iter("object"):
                label = cell.findtext("name") or ""
                left, top, right, bottom = (int(cell.findtext(f"bndbox/{side}") or 0)
                                            for side in ("xmin", "ymin", "xmax", "ymax"))  # fmt: skip
                right, bottom = min(right, picture.width), min(bottom, picture.height)
                seen[label] = seen.get(label, 0) + 1
                if min(right - left, bottom - top) >= _LEAST_CELL and seen[label] <= (
                    FULL if part == "train" else TEST
                ):
                    yield label, part, np.asarray(picture.convert("RGB").crop((left, top, right, bottom)))


MAKERS: Final[dict[str, Callable[[], Drawn]]] = {
    "drawings": _drawings,
    "clothes": _clothes,
    "chests": _chests,
    "cells": _cells,
}
SETS: Final = (TRASHNET, *MAKERS)
