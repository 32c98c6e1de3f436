"""What a recipe's values must be: types, ranges, and names that exist."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from graft.data.augmentation import policies
from graft.errors import UsageError, nearest, shown
from graft.training.recipe import optimizers, schedules
from graft.training.recipe.losses import loss_function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

    Settings = DataclassInstance


@cache
def kinds_of(settings: type[Any]) -> Mapping[str, Any]:
    """The type of each setting, by name."""
    return get_type_hints(settings)


def check_types(settings: Settings) -> None:
    """Raise UsageError for a value of another type than its setting's; a whole number for a float becomes one."""
    for setting in fields(settings):
        value, kind = getattr(settings, setting.name), kinds_of(type(settings))[setting.name]
        allowed: tuple[Any, ...] = get_args(kind) or (kind,)
        if all(isinstance(choice, str) for choice in allowed):  # a Literal
            if value not in allowed:
                choices = ", ".join(allowed)
                raise UsageError(
                    f"{setting.name} must be one of {choices}, got {shown(value)!r}{nearest(str(value), allowed)}"
                )
            continue
        if isinstance(value, int) and not isinstance(value, bool) and float in allowed and int not in allowed:
            object.__setattr__(settings, setting.name, float(value))  # 1 is as good as 1.0
        elif isinstance(value, str | Path) and Path in allowed:
            object.__setattr__(settings, setting.name, Path(value))
        elif type(value) not in allowed:
            names = " or ".join("left out" if each is type(None) else each.__name__ for each in allowed)
            raise UsageError(f"{setting.name} must be {names}, got {shown(repr(value))}")


_RANGES: Final[tuple[tuple[str, float, float, str], ...]] = (
    ("epochs", 1, math.inf, "1 or more"),
    ("batch", 1, math.inf, "1 or more pictures"),
    ("accumulate", 1, math.inf, "1 or more batches"),
    ("head_epochs", 0, math.inf, "0 or more epochs, and finite"),
    ("momentum", 0, 1, "0 or more and less than 1"),
    ("weight_decay", 0, math.inf, "0 or more, and finite"),
    ("l1", 0, math.inf, "0 or more, and finite"),
    ("l2", 0, math.inf, "0 or more, and finite"),
    ("dropout", 0, 1, "0 or more and less than 1"),
    ("dropconnect", 0, 1, "0 or more and less than 1"),
    ("stochastic_depth", 0, 1, "0 or more and less than 1"),
    ("warmup", 0, math.inf, "0 or more epochs, and finite"),
    ("label_smoothing", 0, 1, "0 or more and less than 1"),
    ("mixup", 0, math.inf, "0 or more, and finite"),
    ("cutmix", 0, math.inf, "0 or more, and finite"),
    ("ema", 0, 1, "0 or more and less than 1"),
    ("patience", 1, math.inf, "1 or more epochs"),
    ("seed", 0, 2**63, "0 or more and below 2⁶³"),
)
"""Name of a setting, its least value, what it must stay below, and both in words."""

_POSITIVE: Final = ("rate", "budget", "max_norm", "clip")


def check_ranges(settings: Settings) -> None:
    """Raise UsageError for a number that no run can have."""
    for name, least, below, words in _RANGES:
        value = getattr(settings, name)
        if value is not None and not least <= value < below:
            raise UsageError(f"{name} must be {words}, got {value}")
    for name in _POSITIVE:
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{name} must be above 0 and finite, got {value}")
    share, decay = settings.test_fraction, settings.layer_decay  # type: ignore[attr-defined]
    if not 0 < share < 1:
        raise UsageError(f"--test-fraction must lie between 0 and 1, got {share}; 0.2 is usual")
    if not 0 < decay <= 1:
        raise UsageError(f"layer_decay must be above 0 and at most 1, got {decay}")


def check_names(settings: Any) -> None:
    """Raise UsageError for a name that nothing has, and for settings that exclude each other."""
    optimizers.find(settings.optimizer)
    schedules.find(settings.schedule)
    loss_function(settings.loss, smoothing=settings.label_smoothing)
    policies.parse(settings.augment)
    if settings.mixup and settings.cutmix:
        raise UsageError(f"one of mixup and cutmix can be on, got {settings.mixup} and {settings.cutmix}; set one to 0")
    by_stage = settings.head_epochs or settings.unfreeze == "gradual"
    if by_stage and not optimizers.find(settings.optimizer).gradients:
        raise UsageError(
            f"{settings.optimizer} changes all weights at once, so no stage can join later; leave head_epochs and "
            "unfreeze out, or take another optimizer"
        )
