"""The objective of telling classes apart: a loss of logits, and how many samples are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.errors import UsageError
from graft.models.auxiliary import total_loss
from graft.training.recipe.losses import Loss, balanced_weights, loss_function
from graft.training.recipe.settings import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from graft.training.loop.history import Score
    from graft.training.loop.source import Source

ACCURACY = "accuracy"


@dataclass(frozen=True)
class Classification:
    """Logits (n, K) against class numbers (n,), or shares of classes (n, K) as mixup gives them.

    loss: minimised, smoothed and weighed as the recipe has it; unweighed: of validation. A network that also gives the
    logits of auxiliary classifiers is trained by all of them, and judged by its own.
    """

    classes: int
    loss: Loss
    unweighed: Loss
    names: tuple[str, ...] = (ACCURACY,)

    def losses(self, outputs: Any, target: Tensor) -> Tensor:
        """(n,), in nats for cross-entropy."""
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        return total_loss(self.loss, logits.float(), [extra.float() for extra in auxiliary], target)

    def plain(self, outputs: Any, target: Tensor) -> Tensor:
        """(n,), of the network's own logits."""
        return self.unweighed(_own(outputs), target)

    def counts(self, outputs: Any, target: Tensor) -> Tensor:
        """(1,): how many are right; of mixed samples the class with the larger share counts."""
        import torch

        labels = target if target.ndim == 1 else target.argmax(dim=1)
        return (_own(outputs).argmax(dim=1) == labels).sum(dtype=torch.float64)[None]

    def rank(self, score: Score) -> tuple[float, ...]:
        """A higher accuracy, or the same with a lower loss."""
        return score.values[ACCURACY], -score.loss


def classification(recipe: Recipe, train: Source, val: Source | None, outputs: Any) -> Classification:
    """The objective of a recipe. outputs: of the network for one sample, (1, K) logits, or a tuple that begins so.

    Raises UsageError when a label is not one of the network's classes.
    """
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    classes = int(logits.shape[1])
    for samples in (train, val):
        if samples is not None and samples.labels.max() >= classes:
            raise UsageError(
                f"the network has {classes} classes and a label is {samples.labels.max()}, counted from 0; build it "
                f"with {samples.labels.max() + 1} classes or more"
            )
    weights = None
    if recipe.class_weights == "balanced":
        counts = np.bincount(train.labels, minlength=classes).tolist()
        weights = balanced_weights(counts).to(logits.device)
    loss = loss_function(recipe.loss, smoothing=recipe.label_smoothing, class_weights=weights)
    return Classification(classes, loss, loss_function(recipe.loss))


def _own(outputs: Any) -> Tensor:
    """(n, K) float32: the network's own logits."""
    logits: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.float()
