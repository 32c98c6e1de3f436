"""Labelled pictures that come as arrays: a `.npz` file, or a folder of IDX files as MNIST's.

Names that are understood in a `.npz` file: `x_train`, `y_train` (and `_val`, `_test`) as Keras saves them, or
`train_images`, `train_labels` (`val_`, `test_`) as MedMNIST does, and `classes`, the names in the labels' order.
In a folder: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`, gzipped or not, any prefix before them.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.data.sources.array_files import read_idx, read_npz, shape_and_kind
from graft.data.sources.walk import is_hidden
from graft.errors import BadFolder, shown
from graft.progress import Progress, silent

SPLITS: Final = ("train", "val", "test")
_KERAS: Final = tuple((f"x_{split}", f"y_{split}") for split in SPLITS)
_MEDMNIST: Final = tuple((f"{split}_images", f"{split}_labels") for split in SPLITS)
_CLASSES: Final = "classes"
_IDX_NAME: Final = re.compile(r"(?:.+-)?(train|val|test|t10k)-(images|labels)[-.]idx\d-ubyte(?:\.gz)?", re.IGNORECASE)
_MAX_LABEL: Final = 2**31 - 1
_PNG_LEVEL: Final = 1  # of 9: small pictures gain little from more
_CHUNK: Final = 256  # pictures that a thread writes at a time


@dataclass(frozen=True, eq=False)
class Part:
    """One split's pictures. split: "train", "val", "test", or None where the file holds one part only.

    pixels: (N, H, W) or (N, H, W, 3) uint8. labels: (N,) int64, indices into the classes.
    """

    split: str | None
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a file of arrays holds: at least one part, all with pictures of one shape, and the classes' names."""

    parts: tuple[Part, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Raw:
    """Two arrays as they came, and what errors call them."""

    split: str
    pixels: NDArray[Any]
    labels: NDArray[Any]
    pixels_name: str
    labels_name: str


def is_arrays(path: Path) -> bool:
    """Whether a path looks like what `read_arrays` takes: a `.npz` file, or a folder with IDX files directly in it."""
    if path.is_dir():
        try:
            return any(_IDX_NAME.fullmatch(name) for name in os.listdir(path))
        except OSError:  # what scans the folder next says why
            return False
    return path.suffix.lower() == ".npz" and path.is_file()


def read_arrays(path: Path) -> Arrays:
    """The pictures and labels of a `.npz` file or a folder of IDX files, in memory.

    Floats in 0–1 are scaled by 255 and rounded. Labels that come without `classes` are named by their numbers, padded
    with zeros so that they sort; labels are then counted from 0 in that order.
    Raises BadFolder, in one line that says what came, for anything else than the arrays that `Part` describes.
    """
    raws, names = _from_idx(path) if path.is_dir() else _from_npz(path)
    if len(raws) > 1 and raws[0].split != "train":
        raise BadFolder(
            f"{shown(path)}: expected a part to train on, found {' and '.join(raw.split for raw in raws)} only; "
            "add x_train and y_train, or keep one part, which is then split"
        )
    pixels = [_pixels(path, raw) for raw in raws]
    first = pixels[0].shape[1:]
    for raw, x in zip(raws, pixels, strict=True):
        if x.shape[1:] != first:
            raise BadFolder(
                f"{shown(path)}: expected pictures of one shape, found {first} in {raws[0].pixels_name} and "
                f"{x.shape[1:]} in {raw.pixels_name}; resize them"
            )
    labels, classes = _labels(path, raws, names)
    splits = [raw.split for raw in raws] if len(raws) > 1 else [None]
    return Arrays(tuple(Part(*part) for part in zip(splits, pixels, labels, strict=True)), classes)


def unpack_arrays(path: Path, cache: Path, *, progress: Progress = silent) -> Path:
    """Write what `read_arrays` reads as PNG files, and return the folder to scan: class folders, or splits of them.

    cache: a folder to keep it in, under the digest of what was read, so that the same file is unpacked once; it is
    written under another name and renamed, so that it is whole or not there.
    Raises BadFolder as read_arrays does, OSError when the disk is full or read-only.
    """
    target = cache / "arrays" / _digest(path)
    if target.is_dir():
        return target
    arrays = read_arrays(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as staging:
        content = Path(staging) / "content"
        _write(arrays, content, progress)
        try:
            content.rename(target)
        except OSError:
            if not target.is_dir():  # else another run was first, and wrote the same
                raise
    return target


def _from_npz(path: Path) -> tuple[list[_Raw], tuple[str, ...] | None]:
    found = read_npz(path, [name for pair in (*_KERAS, *_MEDMNIST) for name in pair] + [_CLASSES])
    raws = []
    for names in (_KERAS, _MEDMNIST):
        for split, (x, y) in zip(SPLITS, names, strict=True):
            if (x in found) != (y in found):
                here, missing = (x, y) if x in found else (y, x)
                raise BadFolder(f"{shown(path)}: expected {x} with {y}, found {here} alone; add {missing}")
            if x in found:
                raws.append(_Raw(split, found[x], found[y], x, y))
    if not raws:
        raise BadFolder(f"{shown(path)}: expected x_train and y_train, found only {_CLASSES}; add the pictures")
    if len({raw.split for raw in raws}) < len(raws):
        raise BadFolder(
            f"{shown(path)}: expected names as x_train or as train_images, found both; keep those of one kind"
        )
    return raws, _class_names(path, found[_CLASSES]) if _CLASSES in found else None


def _from_idx(path: Path) -> tuple[list[_Raw], None]:
    files: dict[tuple[str, str], Path] = {}
    for name in sorted(os.listdir(path)):
        if match := _IDX_NAME.fullmatch(name):
            split, what = match[1].lower().replace("t10k", "test"), match[2].lower()
            other = files.setdefault((split, what), path / name)
            if other.name != name:
                raise BadFolder(
                    f"{shown(path)}: expected one file of {split} {what}, found {shown(other.name)} and {shown(name)}; "
                    "keep one"
                )
    raws = []
    for split in SPLITS:
        x, y = files.get((split, "images")), files.get((split, "labels"))
        if x and y:
            raws.append(_Raw(split, read_idx(x), read_idx(y), x.name, y.name))
        elif one := x or y:
            raise BadFolder(
                f"{shown(path)}: expected images with labels, found {shown(one.name)} alone; add the other file"
            )
    if not raws:
        raise BadFolder(
            f"{shown(path)}: expected train-images-idx3-ubyte and train-labels-idx1-ubyte, found none; check the names"
        )
    return raws, None


def _pixels(path: Path, raw: _Raw) -> NDArray[np.uint8]:
    """(N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8 or floats in 0–1 → (N, H, W) or (N, H, W, 3) uint8."""
    x = raw.pixels
    came = shape_and_kind(x.shape, x.dtype)
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] != 3) or 0 in x.shape:
        advice = "put the channels last" if x.ndim == 4 and x.shape[1] in (1, 3) else "reshape them"
        raise BadFolder(
            f"{shown(path)}: expected pictures (N, H, W) or (N, H, W, 3) in {raw.pixels_name}, found {came}; {advice}"
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise BadFolder(
            f"{shown(path)}: expected uint8 0–255, or floats 0–1, in {raw.pixels_name}, found {came}; "
            "scale them to 0–255 and save them as uint8"
        )
    low, high = x.min(), x.max()  # NaN where there is one
    if x.dtype == np.uint8:
        if high == 1:
            raise BadFolder(
                f"{shown(path)}: expected uint8 0–255 in {raw.pixels_name}, found uint8 0–1, which looks black; "
                "multiply by 255"
            )
        return np.ascontiguousarray(x)
    if not (low >= 0 and high <= 1):
        raise BadFolder(
            f"{shown(path)}: expected floats in 0–1 in {raw.pixels_name}, found {x.dtype} from {low:g} to {high:g}; "
            "scale them to 0–255 and save them as uint8"
        )
    return np.rint(x.astype(np.float32) * 255).astype(np.uint8)


def _labels(
    path: Path, raws: Sequence[_Raw], names: tuple[str, ...] | None
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Every part's (N,) indices into the classes, and the classes: `names`, or the numbers that occur."""
    given = [_integers(path, raw) for raw in raws]
    present = np.unique(np.concatenate(given))
    if names is None:
        width = len(str(present[-1]))
        return [np.searchsorted(present, y) for y in given], tuple(f"{value:0{width}d}" for value in present)
    if present[-1] >= len(names):
        raise BadFolder(
            f"{shown(path)}: expected labels 0 to {len(names) - 1}, for {len(names)} {_CLASSES}, found {present[-1]}; "
            "name every class"
        )
    return given, names


def _integers(path: Path, raw: _Raw) -> NDArray[np.int64]:
    y, n = raw.labels, len(raw.pixels)
    if y.dtype.kind not in "iu" or y.shape not in ((n,), (n, 1)):
        raise BadFolder(
            f"{shown(path)}: expected {n:,} integers, (N,) or (N, 1), in {raw.labels_name}, as many as pictures, found "
            f"{shape_and_kind(y.shape, y.dtype)}; save one class number for each picture"
        )
    y = y.reshape(n)
    if y.min() < 0 or y.max() > _MAX_LABEL:
        bad = y.min() if y.min() < 0 else y.max()
        raise BadFolder(f"{shown(path)}: expected class numbers from 0 in {raw.labels_name}, found {bad}; count from 0")
    return y.astype(np.int64)


def _class_names(path: Path, names: NDArray[Any]) -> tuple[str, ...]:
    """The strings of `classes`, each fit to name a folder, as the classes of a model are."""
    if names.ndim != 1 or names.dtype.kind != "U":
        raise BadFolder(
            f"{shown(path)}: expected a list of names in {_CLASSES}, found {shape_and_kind(names.shape, names.dtype)}; "
            "save np.array([…]) of str"
        )
    seen: set[str] = set()
    for name in names.tolist():
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise BadFolder(f"{shown(path)}: expected every class once, found '{shown(name)}' again; rename one")
        seen.add(key)
        unfit = not name.strip() or name != name.strip() or is_hidden(name) or not name.isprintable()
        if unfit or set(name) & set('/\\:*?"<>|') or len(name.encode("utf-8", "surrogatepass")) > 200:
            raise BadFolder(
                f"{shown(path)}: expected {_CLASSES} that can name a folder, found '{shown(name)[:80]}'; write it "
                "without slashes, colons and the like"
            )
    return tuple(names.tolist())


def _digest(path: Path) -> str:
    """32 hex digits of the SHA-256 of what would be read: the file, or the IDX files with their names."""
    if not path.is_dir():
        return _sha256(path).hexdigest()[:32]
    whole = hashlib.sha256()
    for name in sorted(os.listdir(path)):
        if _IDX_NAME.fullmatch(name):
            whole.update(os.fsencode(name) + b"\0" + _sha256(path / name).digest())
    return whole.hexdigest()[:32]


def _sha256(path: Path) -> hashlib._Hash:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise BadFolder(
            f"{shown(path)}: expected a readable file, found none ({error.strerror}); check path and permissions"
        ) from error


def _write(arrays: Arrays, folder: Path, progress: Progress) -> None:
    """A PNG file for each picture: split/class/number.png, or class/number.png where there are no splits."""
    total, done = sum(len(part.labels) for part in arrays.parts), 0
    progress("unpacking pictures", 0, total)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for part in arrays.parts:
            homes = [folder / (part.split or "") / name for name in arrays.classes]
            for home in homes:
                home.mkdir(parents=True)
            chunks = [range(at, min(at + _CHUNK, len(part.labels))) for at in range(0, len(part.labels), _CHUNK)]
            for written in threads.map(partial(_write_chunk, part, [str(home) for home in homes]), chunks):
                done += written
                progress("unpacking pictures", done, total)


def _write_chunk(part: Part, homes: list[str], numbers: range) -> int:
    digits = len(str(len(part.labels)))
    for number in numbers:
        path = os.path.join(homes[part.labels[number]], f"{number:0{digits}d}.png")
        Image.fromarray(part.pixels[number]).save(path, compress_level=_PNG_LEVEL)
    return len(numbers)
