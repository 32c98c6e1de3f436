"""`graft evaluate`: score a model on labelled pictures, and keep count of the looks at its test pictures."""

from __future__ import annotations

from pathlib import Path

from graft.classifier.evaluation import Evaluation, evaluate_model
from graft.classifier.model import load
from graft.progress import Progress, silent


def run(
    model: Path, folder: Path, *, csv: Path | None = None, device: str = "auto", progress: Progress = silent
) -> Evaluation:
    """Score the model in the folder `model` on labelled pictures.

    Raises BadFolder when the pictures' classes are not the model's, BadModel when a look cannot be counted.
    """
    return evaluate_model(load(model, device=device), folder, csv=csv, progress=progress)
