"""Every setting of a training run in one frozen dataclass, which reads and writes TOML. No torch is needed.

Names of optimisers, schedules, losses and augmentations are checked against the cards of their own files.
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args, get_type_hints

from graft.data.augmentation import policies
from graft.errors import UsageError, nearest, shown
from graft.training.recipe import optimizers, schedules
from graft.training.recipe.losses import loss_function

Precision = Literal["auto", "float32", "bfloat16"]
Keep = Literal["best", "last"]
ClassWeights = Literal["none", "balanced"]
Normalizing = Literal["channels", "mean-image", "none"]
Unfreeze = Literal["at-once", "gradual"]


def _said(text: str) -> dict[str, str]:
    """Metadata of a setting: what it is, its unit and range, as a comment in TOML and the help of a flag."""
    return {"help": text}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained. None means off, or that the value is chosen as the setting's help says.

    `fit` reads all but `dropout`, `dropconnect`, `stochastic_depth`, `activation` and `initialization`: those change
    the network, and whoever builds it applies them. A bad value raises UsageError as the dataclass is made.
    """

    epochs: int = field(default=10, metadata=_said("passes over the training split; with a budget, as many as fit"))
    budget: float | None = field(default=None, metadata=_said("seconds that the run may take; replaces epochs"))
    batch: int | None = field(default=None, metadata=_said("pictures in one pass; if left out, 128 or fewer"))
    accumulate: int = field(default=1, metadata=_said("batches whose gradients make one step"))
    optimizer: str = field(default="momentum", metadata=_said("name of the optimiser; gd steps on the whole split"))
    rate: float | None = field(default=None, metadata=_said("base learning rate; if left out, the optimiser's usual"))
    layer_decay: float = field(default=1.0, metadata=_said("what multiplies the rate with each stage below the head"))
    head_epochs: float = field(default=0.0, metadata=_said("epochs in which the head trains alone, before the rest"))
    unfreeze: Unfreeze = field(default="at-once", metadata=_said("gradual: stages join one by one, from the top"))
    frozen_statistics: bool = field(default=False, metadata=_said("batch norm keeps the statistics that it came with"))
    momentum: float = field(default=0.9, metadata=_said("momentum of the optimisers that have it, 0 to 1"))
    weight_decay: float = field(default=5e-4, metadata=_said("decay of weights inside the optimiser, 0 or more"))
    l1: float = field(default=0.0, metadata=_said("factor of the sum of absolute weights in the loss"))
    l2: float = field(default=0.0, metadata=_said("factor of the sum of squared weights in the loss"))
    max_norm: float | None = field(default=None, metadata=_said("largest norm of a unit's incoming weights"))
    dropout: float | None = field(default=None, metadata=_said("share of features dropped before linear layers"))
    dropconnect: float | None = field(default=None, metadata=_said("share of weights dropped in the linear layers"))
    stochastic_depth: float | None = field(default=None, metadata=_said("share of steps that skip the last block"))
    activation: str | None = field(default=None, metadata=_said("activation in place of the network's own"))
    initialization: str | None = field(default=None, metadata=_said("how weights start, in place of the network's own"))
    schedule: str = field(default="cosine", metadata=_said("how the rate changes over the run"))
    warmup: float = field(default=0.0, metadata=_said("epochs in which the rate rises from 0"))
    loss: str = field(default="cross-entropy", metadata=_said("the loss that is minimised"))
    label_smoothing: float = field(default=0.0, metadata=_said("share of the target spread over all classes"))
    class_weights: ClassWeights = field(default="none", metadata=_said("balanced: rare classes weigh more"))
    augment: str = field(default="crop", metadata=_said("none, light, standard, strong, or names joined by commas"))
    mixup: float = field(default=0.0, metadata=_said("alpha of mixup's Beta distribution; 0 is off"))
    cutmix: float = field(default=0.0, metadata=_said("alpha of CutMix's Beta distribution; 0 is off"))
    normalization: Normalizing = field(default="channels", metadata=_said("what is subtracted from the pictures"))
    precision: Precision = field(default="auto", metadata=_said("auto: bfloat16 where a short timing gains by it"))
    channels_last: bool = field(default=True, metadata=_said("keep maps with channels last in memory"))
    clip: float | None = field(default=None, metadata=_said("largest norm of the whole gradient"))
    ema: float | None = field(default=None, metadata=_said("decay of the moving average of weights, such as 0.999"))
    keep: Keep = field(default="best", metadata=_said("which weights the run ends with, by validation accuracy"))
    patience: int | None = field(default=None, metadata=_said("epochs without a better one before the run stops"))
    seed: int = field(default=0, metadata=_said("what order, augmentation and dropout are drawn from"))
    tensorboard: bool = field(default=False, metadata=_said("write the history for TensorBoard too"))

    def __post_init__(self) -> None:
        _check_types(self)
        _check_ranges(self)
        _check_names(self)
        if self.mixup and self.cutmix:
            raise UsageError(f"one of mixup and cutmix can be on, got {self.mixup} and {self.cutmix}; set one to 0")
        if (self.head_epochs or self.unfreeze == "gradual") and not optimizers.find(self.optimizer).gradients:
            raise UsageError(
                f"{self.optimizer} changes all weights at once, so no stage can join later; leave head_epochs and "
                "unfreeze out, or take another optimizer"
            )

    def to_toml(self) -> str:
        """The settings as TOML, a line each with its help; those that are None are commented out."""
        lines = ["# settings of graft train: flags or --settings FILE"]
        for setting in fields(self):
            value = getattr(self, setting.name)
            line = f"# {setting.name} =" if value is None else f"{setting.name} = {_toml(value)}"
            lines.append(f"{line:<32}# {setting.metadata['help']}")
        return "\n".join(lines) + "\n"

    @staticmethod
    def from_toml(text: str) -> TrainingSettings:
        """Settings from TOML; what is left out keeps its default. Raises UsageError as `read_toml`, and for values of a
        wrong type or range."""
        return TrainingSettings(**read_toml(text))


def read_toml(text: str) -> dict[str, Any]:
    """The settings that a TOML text has, by name. Raises UsageError for text that is not TOML, or an unknown name."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the settings are not valid TOML: {shown(error)}") from error
    known = [setting.name for setting in fields(TrainingSettings)]
    for name in values:
        if name not in known:
            raise UsageError(f"there is no setting {shown(name)!r}{nearest(name, known)}")
    return values


def _toml(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)  # TOML reads JSON's numbers and strings


_TYPES: Final = get_type_hints(TrainingSettings)


def _check_types(settings: TrainingSettings) -> None:
    for setting in fields(settings):
        value, kind = getattr(settings, setting.name), _TYPES[setting.name]
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


def _check_ranges(settings: TrainingSettings) -> None:
    for name, least, below, words in _RANGES:
        value = getattr(settings, name)
        if value is not None and not least <= value < below:
            raise UsageError(f"{name} must be {words}, got {value}")
    for name in _POSITIVE:
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{name} must be above 0 and finite, got {value}")
    if not 0 < settings.layer_decay <= 1:
        raise UsageError(f"layer_decay must be above 0 and at most 1, got {settings.layer_decay}")


def _check_names(settings: TrainingSettings) -> None:
    optimizers.find(settings.optimizer)
    schedules.find(settings.schedule)
    loss_function(settings.loss, smoothing=settings.label_smoothing)
    policies.parse(settings.augment)
