"""`graft evaluate`: score a model on labelled pictures, and keep count of the looks at its test pictures."""

from __future__ import annotations

import csv as csv_module
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.classifier import Classifier, count_look
from graft.data.scan import Problem
from graft.errors import BadFolder, shown
from graft.evaluate.metrics import Scores, score, to_json
from graft.jobs.cache import cache_folder
from graft.jobs.model import Model, load
from graft.jobs.source import opened
from graft.progress import Progress, silent


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what they are worth. seen: pictures the model was trained on. tested: pictures of its test split.

    looks: how often that split has been used, this time included.
    """

    scores: Scores
    problems: tuple[Problem, ...]
    seen: int
    tested: int
    looks: int


def run(
    model: Path, folder: Path, *, csv: Path | None = None, device: str = "auto", progress: Progress = silent
) -> Evaluation:
    """Score the model in the folder `model` on labelled pictures.

    Raises BadFolder when the pictures' classes are not the model's, BadModel when a look cannot be counted.
    """
    return evaluate_model(load(model, device=device), folder, csv=csv, progress=progress)


def evaluate_model(model: Model, folder: Path, *, csv: Path | None = None, progress: Progress = silent) -> Evaluation:
    """Score a loaded model on labelled pictures."""
    with opened(folder, cache_folder(None), csv=csv, progress=progress) as collection:
        unknown = [name for name in collection.classes if name not in model.classes]
        if unknown:
            raise BadFolder(
                f"{shown(folder)} has classes that the model does not know ({', '.join(map(shown, unknown[:5]))}); "
                f"it knows {', '.join(map(shown, model.classes[:20]))}; rename the folders or train a model on them"
            )
        index = np.array([model.classes.index(name) for name in collection.classes])
        labels, rows, keys = [], [], []
        problems = list(collection.problems)
        said = model.stream(sample.path for sample in collection.samples)
        for number, (sample, one) in enumerate(zip(collection.samples, said, strict=True), 1):
            if one.probabilities is None:
                problems.append(Problem(sample.path, one.problem or ""))
            else:
                labels.append(index[sample.label])
                rows.append(one.probabilities)
                keys.append(one.key.hex())
            progress("classifying pictures", number, len(collection.samples))
    if not rows:
        raise BadFolder(f"no picture of {shown(folder)} could be read; the first: {problems[0].reason}")
    parts = _parts(model.classifier)
    where = Counter(parts.get(key) for key in keys)
    looks = count_look(model.classifier) if where["test"] else model.classifier.manifest.looks
    counts = model.classifier.manifest.data["counts"]
    majority = max(range(len(model.classes)), key=lambda i: counts[model.classes[i]]["train"])
    scores = score(np.stack(rows), np.array(labels), classes=model.classes, majority=majority)
    return Evaluation(scores, tuple(problems), where["train"], where["test"], looks)


def as_json(result: Evaluation) -> str:
    """Scores as `model.json` holds them, and what they are worth."""
    return json.dumps(
        {
            **to_json(result.scores),
            "set_aside": [{"path": p.path, "reason": p.reason} for p in result.problems],
            "trained_on": result.seen,
            "of_the_test_split": result.tested,
            "looks": result.looks,
        },
        indent=1,
    )


def as_text(result: Evaluation) -> str:
    """For people: the score first, then each class, then what to be careful about."""
    s = result.scores
    lines = [
        f"right on {s.top1.percent()} of {s.n:,} pictures (95 % interval)",
        f"always {shown(s.majority)}: {s.baseline.percent()}",
        f"balanced over classes: {s.balanced.percent()}",
    ]
    if s.top5 is not None:
        lines.append(f"among the first five: {s.top5.percent()}")
    width = max(len(shown(c.name)) for c in s.per_class)
    lines += [
        f"  {shown(c.name):{width}}  {c.n:6,} pictures, found {c.recall.percent()}, "
        f"of those called so {c.precision.percent()}"
        for c in s.per_class
        if c.n
    ]
    if result.problems:
        lines.append(f"{len(result.problems):,} files set aside; the first: {result.problems[0].reason}")
    if result.seen:
        lines.append(f"careful: the model was trained on {result.seen:,} of these pictures, so this is no test")
    if result.tested:
        lines.append(f"{result.tested:,} of these are its test pictures, used {result.looks} times by now")
    return "\n".join(lines)


def _parts(classifier: Classifier) -> dict[str, str]:
    """Content key → the part of the split that the picture was in, for every picture the model knows."""
    table = classifier.folder / "samples.csv"
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return {row["key"]: row["part"] for row in csv_module.DictReader(stream)}
