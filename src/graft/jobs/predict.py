"""`graft predict`: say what is on pictures, any number of them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import IO, Literal

from graft.classifier.model import load
from graft.classifier.predict import Prediction
from graft.data.sources.scan import picture_paths
from graft.errors import UsageError, shown


def run(
    model: Path,
    paths: Iterable[str],
    *,
    top: int = 1,
    form: Literal["text", "json", "csv"] = "text",
    device: str = "auto",
    out: IO[str] | None = None,
) -> int:
    """Print a line for each picture as soon as it is known; how many could not be read.

    form: `json` prints an object a line, `csv` a table with a row for each of the `top` classes.
    Raises BadModel, or BadFolder for a path that does not exist.
    """
    opened = load(model, device=device)
    if not 1 <= top <= len(opened.classes):
        raise UsageError(f"--top must lie between 1 and the {len(opened.classes)} classes of {shown(model)}, got {top}")
    files = iter(picture_paths(paths))
    first = next(files, None)  # a wrong path is refused before anything is printed
    out = out or sys.stdout
    writer = csv.writer(out, lineterminator="\n")
    if form == "csv":
        writer.writerow(["path", "rank", "class", "probability", "problem"])
    unreadable = 0
    for said in opened.stream(chain([] if first is None else [first], files)):
        unreadable += said.problem is not None
        if form == "json":
            print(json.dumps(_fields(said, top)), file=out, flush=True)
        elif form == "csv":
            writer.writerows(_rows(said, top))
        else:
            print(_line(said, top), file=sys.stderr if said.problem else out, flush=True)
    return unreadable


def _fields(said: Prediction, top: int) -> dict[str, object]:
    if said.problem is not None:
        return {"path": said.path, "problem": said.problem}
    return {"path": said.path, "top": [{"class": name, "probability": round(p, 6)} for name, p in said.top(top)]}


def _rows(said: Prediction, top: int) -> list[list[object]]:
    if said.problem is not None:
        return [[said.path, "", "", "", said.problem]]
    return [[said.path, rank, name, f"{p:.6f}", ""] for rank, (name, p) in enumerate(said.top(top), 1)]


def _line(said: Prediction, top: int) -> str:
    if said.problem is not None:
        return f"graft: {said.problem}"
    return f"{shown(said.path)}: " + ", ".join(f"{shown(name)} {100 * p:.1f} %" for name, p in said.top(top))
