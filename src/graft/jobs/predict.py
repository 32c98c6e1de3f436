"""`graft predict`: say what is on pictures, any number of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from graft.classifier.model import load
from graft.classifier.predict import Prediction
from graft.data.sources.scan import picture_paths
from graft.errors import UsageError, shown


def run(model: Path, paths: Iterable[str], *, top: int = 1, device: str = "auto") -> Iterable[Prediction]:
    """A prediction for each picture, in order, as soon as it is known.

    paths: pictures, folders, patterns. top: how many classes are to be named. Raises BadModel, UsageError for a `top`
    beyond the classes, BadFolder for a path that does not exist: all before the first prediction.
    """
    opened = load(model, device=device)
    if not 1 <= top <= len(opened.classes):
        raise UsageError(f"--top must lie between 1 and the {len(opened.classes)} classes of {shown(model)}, got {top}")
    files = iter(picture_paths(paths))
    first = next(files, None)  # a wrong path is refused before anything is printed
    return opened.stream(chain([] if first is None else [first], files))
