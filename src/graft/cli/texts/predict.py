"""What `graft predict` prints: a line for each picture, as soon as it is known."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from typing import Literal

from graft.classifier.predict import Prediction
from graft.errors import shown

Form = Literal["text", "json", "csv"]


def print_each(predictions: Iterable[Prediction], form: Form, *, top: int) -> int:
    """Print the `top` classes of each picture; how many pictures could not be read.

    form: `json` is an object a line, `csv` a table with a row for each class. Problems of `text` go to stderr.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(["path", "rank", "class", "probability", "problem"])
    unreadable = 0
    for one in predictions:
        unreadable += one.problem is not None
        if form == "json":
            print(json.dumps(_fields(one, top)), flush=True)
        elif form == "csv":
            writer.writerows(_rows(one, top))
        else:
            print(_line(one, top), file=sys.stderr if one.problem else sys.stdout, flush=True)
    return unreadable


def _fields(one: Prediction, top: int) -> dict[str, object]:
    if one.problem is not None:
        return {"path": one.path, "problem": one.problem}
    return {"path": one.path, "top": [{"class": name, "probability": round(p, 6)} for name, p in one.top(top)]}


def _rows(one: Prediction, top: int) -> list[list[object]]:
    if one.problem is not None:
        return [[one.path, "", "", "", one.problem]]
    return [[one.path, rank, name, f"{p:.6f}", ""] for rank, (name, p) in enumerate(one.top(top), 1)]


def _line(one: Prediction, top: int) -> str:
    if one.problem is not None:
        return f"graft: {one.problem}"
    return f"{shown(one.path)}: " + ", ".join(f"{shown(name)} {100 * p:.1f} %" for name, p in one.top(top))
