"""`graft audit`: find what is wrong with a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.classifier.artefact import load
from graft.classifier.samples import SAMPLES, read_samples
from graft.data import audit as data_audit
from graft.data.audit import Audit
from graft.data.decode import decode, read_picture
from graft.data.duplicates import near_groups
from graft.data.facts import FACTS, facts_of
from graft.data.sources.opened import opened
from graft.data.sources.scan import Collection, Problem, Sample
from graft.disk.cache import cache_folder
from graft.errors import BadModel, BadPicture, shown
from graft.progress import Progress, silent
from graft.runtime.stream import ordered_map

_DOUBTED: Final = 20
_SHORTEST: Final = 224  # the reduced size that large JPEGs may be decoded at, as for training


@dataclass(frozen=True)
class Doubt:
    """A label that a model trained on the folder doubts. probability: of that label, 0–1."""

    path: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Audited:
    """What was found; doubts are empty unless a model was given."""

    audit: Audit
    doubts: tuple[Doubt, ...] = ()


def audit(folder: str | Path, *, progress: Progress = silent) -> Audit:
    """Look at every picture of a folder, or zip, and say what is wrong: see `graft audit --help`.

    Raises BadFolder for a folder that holds no classes of pictures.
    """
    return run(Path(folder), progress=progress).audit


def run(
    folder: Path,
    *,
    csv: Path | None = None,
    model: Path | None = None,
    follow_links: bool = False,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Audited:
    """Audit a folder; with `model`, also list the labels that the model's cross-validation doubts most."""
    doubts = _doubts(model) if model is not None else ()
    with opened(folder, cache_folder(cache), csv=csv, follow_links=follow_links, progress=progress) as collection:
        kept: list[Sample] = []
        records: list[NDArray[np.void]] = []
        problems: list[Problem] = list(collection.problems)
        for number, (sample, seen) in enumerate(ordered_map(_facts, collection.samples), 1):
            if isinstance(seen, Problem):
                problems.append(seen)
            else:
                kept.append(sample)
                records.append(seen)
            progress("looking at pictures", number, len(collection.samples))
        facts = np.array(records, FACTS)
        ordered = tuple(sorted(problems, key=lambda p: (p.path, p.reason)))
        readable = Collection(collection.root, collection.classes, tuple(kept), ordered)
        return Audited(data_audit.audit(readable, facts, near_groups(facts)), doubts)


def is_serious(found: Audited) -> bool:
    """Whether `graft audit --strict` fails: an error or a warning."""
    return not found.audit.is_clean


def _facts(sample: Sample) -> tuple[Sample, NDArray[np.void] | Problem]:
    try:
        picture = decode(read_picture(sample.path), name=sample.path, shortest=_SHORTEST)
    except BadPicture as error:
        return sample, Problem(sample.path, str(error))
    return sample, facts_of(picture)


def _doubts(model: Path) -> tuple[Doubt, ...]:
    """From the table of pictures that training wrote into the (verified) model folder."""
    folder = load(model).folder
    try:
        doubted = [row for row in read_samples(folder) if row.predicted not in ("", row.label)]
    except FileNotFoundError as error:
        raise BadModel(
            f"{shown(model)} holds no {SAMPLES}, so it says nothing of single pictures; train again"
        ) from error
    doubts = [Doubt(row.path, row.label, row.predicted, row.probability_of_label or 0.0) for row in doubted]
    return tuple(sorted(doubts, key=lambda doubt: doubt.probability)[:_DOUBTED])
