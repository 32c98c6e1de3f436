"""`samples.csv`: every picture of a run, and what a fit that never saw it says of its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

SAMPLES: Final = "samples.csv"


@dataclass(frozen=True)
class SampleRow:
    """One picture. path: from the pictures' folder. part: train, val or test. key: of its bytes, 32 hex digits.

    predicted: the class that a fit which never saw it prefers, "" where there is none; probability_of_label: what that
    fit gives its label, 0–1, or None.
    """

    path: str
    label: str
    part: str
    key: str
    predicted: str
    probability_of_label: float | None


def write_samples(rows: Iterable[SampleRow]) -> bytes:
    """The file's bytes."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field.name for field in fields(SampleRow)])
    for row in rows:
        *texts, probability = astuple(row)
        writer.writerow([*texts, "" if probability is None else f"{probability:.4f}"])
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def read_samples(folder: Path) -> Iterator[SampleRow]:
    """The rows of a model folder. Raises FileNotFoundError where the folder has no such table."""
    with (folder / SAMPLES).open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        for row in csv.DictReader(stream):
            share = row.pop("probability_of_label")
            yield SampleRow(**row, probability_of_label=float(share) if share else None)
