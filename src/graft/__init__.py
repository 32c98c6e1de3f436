"""graft: from a folder of labelled pictures to a classifier you can trust, on the computer you have.

>>> import graft
>>> model = graft.train("photos", "my-model")
>>> model.predict("new.jpg").label
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.analysis.table import Analysis
    from graft.classifier.model import Model, load
    from graft.classifier.predict import Prediction
    from graft.errors import BadFolder, BadModel, BadPicture, GraftError, UsageError
    from graft.evaluate.intervals import Interval
    from graft.evaluate.metrics import Scores
    from graft.jobs.advise import advise
    from graft.jobs.analyze import analyze
    from graft.jobs.audit import audit
    from graft.jobs.curves import curves
    from graft.jobs.networks import networks
    from graft.jobs.search import search
    from graft.jobs.train import train
    from graft.training.recipe.settings import Recipe

_HOMES = {
    "Analysis": "graft.analysis.table",
    "BadFolder": "graft.errors",
    "BadModel": "graft.errors",
    "BadPicture": "graft.errors",
    "GraftError": "graft.errors",
    "Interval": "graft.evaluate.intervals",
    "Model": "graft.classifier.model",
    "Prediction": "graft.classifier.predict",
    "Recipe": "graft.training.recipe.settings",
    "Scores": "graft.evaluate.metrics",
    "UsageError": "graft.errors",
    "advise": "graft.jobs.advise",
    "analyze": "graft.jobs.analyze",
    "audit": "graft.jobs.audit",
    "curves": "graft.jobs.curves",
    "load": "graft.classifier.model",
    "networks": "graft.jobs.networks",
    "search": "graft.jobs.search",
    "train": "graft.jobs.train",
}

__all__ = [
    "Analysis", "BadFolder", "BadModel", "BadPicture", "GraftError", "Interval", "Model", "Prediction", "Recipe",
    "Scores", "UsageError", "advise", "analyze", "audit", "curves", "load", "networks",
    "search", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import graft` alone costs milliseconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
