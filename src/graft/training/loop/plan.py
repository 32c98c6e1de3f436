"""What is decided before the first step and holds to the end of a run, killed and resumed or not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from graft.errors import UsageError
from graft.training.cpu.precision import Precision
from graft.training.loop.source import Source
from graft.training.recipe import optimizers
from graft.training.recipe.normalize import Normalization
from graft.training.recipe.settings import Recipe

RESERVE: Final = 0.05  # of a budget, left for what is not foreseen


_STEPS_WANTED: Final = 16  # in an epoch, where the batch is ours to choose


@dataclass(frozen=True)
class Plan:
    """Decisions of a run, carried by each of its checkpoints.

    classes: K, 0 where the task has none. rate: the base rate. per_step: pictures that one step takes. batch: pictures
    in one pass of the network, `per_step` or fewer. steps: of the whole run. threads: of torch, on which sums' last
    bits depend.
    """

    classes: int
    rate: float
    per_step: int
    batch: int
    steps_per_epoch: int
    steps: int
    precision: Precision
    threads: int


def batch_of(settings: Recipe, pictures: int) -> int:
    """The batch that is asked for; else 128, or less where an epoch would have fewer than 16 steps, but not below 8."""
    if settings.batch is not None:
        return settings.batch
    wanted = 1 << max(3, min(7, (pictures // _STEPS_WANTED).bit_length() - 1))
    return max(1, min(wanted, pictures // settings.accumulate))


def pictures_per_step(settings: Recipe, pictures: int) -> int:
    """How many of the training split's pictures one step takes: a batch, several accumulated, or all of them.

    Raises UsageError when that is more than there are.
    """
    if optimizers.find(settings.optimizer).whole_set:
        return pictures
    wanted = batch_of(settings, pictures) * settings.accumulate
    if wanted > pictures:
        name = "batch" if settings.accumulate == 1 else "batch times accumulate"
        raise UsageError(
            f"{name} must be at most the {pictures} pictures of the training split, got {wanted}; make it smaller"
        )
    return wanted


def refuse_unfit(settings: Recipe, train: Source, val: Source | None, processes: int) -> None:
    """Raise UsageError, in one line, for sets that cannot be trained on with these settings."""
    if not len(train):
        raise UsageError("training needs pictures, got a training split without any")
    if val is not None and not len(val):
        raise UsageError("validation needs pictures, got a split without any; give pictures, or None for no validation")
    if val is not None and val.shape != train.shape:
        raise UsageError(
            f"training and validation pictures must have one shape, got {train.shape} and {val.shape}; resize them"
        )
    per_step = pictures_per_step(settings, len(train))
    if processes > 1 and not optimizers.find(settings.optimizer).gradients:
        raise UsageError(f"{settings.optimizer} runs in one process, got {processes}; start it alone")
    if len(train) // -(-len(train) // per_step) < processes:
        raise UsageError(f"a step needs a picture for each of {processes} processes, got batch {per_step}")


def steps_within(seconds: float, *, seconds_per_step: float, seconds_per_epoch_end: float, steps_per_epoch: int) -> int:
    """How many steps fit in so many seconds, each epoch and the run having an end that takes time too; at least 1.

    A share of the time, RESERVE, is left over.
    """
    usable = seconds * (1 - RESERVE)
    per_epoch = steps_per_epoch * seconds_per_step + seconds_per_epoch_end
    epochs, rest = divmod(max(usable, 0.0), per_epoch)
    further = max(0, int((rest - seconds_per_epoch_end) / seconds_per_step))
    return max(1, int(epochs) * steps_per_epoch + min(further, steps_per_epoch - 1))


def fingerprint(train: Source, val: Source | None, normalization: Normalization | None) -> str:
    """16 hex digits that change with the identities of the sets, and with the normalisation."""
    digest = hashlib.sha256()
    for pictures in (train, val):
        if pictures is not None:
            digest.update(pictures.identity())
    if normalization is not None:
        digest.update(normalization.mean.tobytes() + normalization.std.tobytes())
    return digest.hexdigest()[:16]
