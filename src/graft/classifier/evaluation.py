"""Score a model on labelled pictures, and keep count of the looks at its test pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from graft.classifier.artefact import Classifier, count_look
from graft.classifier.predict import Prediction
from graft.classifier.samples import read_samples
from graft.data.sources.opened import opened
from graft.data.sources.scan import Problem
from graft.disk.cache import cache_folder
from graft.errors import BadFolder, shown
from graft.evaluate.metrics import Scores, score
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


class Predicts(Protocol):
    """What is scored: a loaded model, which answers for any number of pictures, in order."""

    @property
    def classifier(self) -> Classifier:
        """The model folder."""
        ...

    def stream(self, pictures: Iterable[str]) -> Iterable[Prediction]:
        """A prediction for each path."""
        ...


def evaluate_model(
    model: Predicts, folder: Path, *, csv: Path | None = None, progress: Progress = silent
) -> Evaluation:
    """Score a loaded model on labelled pictures."""
    classes = model.classifier.classes
    with opened(folder, cache_folder(None), csv=csv, progress=progress) as collection:
        unknown = [name for name in collection.classes if name not in classes]
        if unknown:
            raise BadFolder(
                f"{shown(folder)} has classes that the model does not know ({', '.join(map(shown, unknown[:5]))}); "
                f"it knows {', '.join(map(shown, classes[:20]))}; rename the folders or train a model on them"
            )
        index = np.array([classes.index(name) for name in collection.classes])
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
    counts = model.classifier.manifest.data.counts
    majority = max(range(len(classes)), key=lambda i: counts[classes[i]].train)
    scores = score(np.stack(rows), np.array(labels), classes=classes, majority=majority)
    return Evaluation(scores, tuple(problems), where["train"], where["test"], looks)


def _parts(classifier: Classifier) -> dict[str, str]:
    """Content key → the part of the split that the picture was in, for every picture the model knows."""
    try:
        return {row.key: row.part for row in read_samples(classifier.folder)}
    except FileNotFoundError:
        return {}
