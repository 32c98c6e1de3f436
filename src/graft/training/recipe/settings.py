"""A recipe: every setting of a run, once, in one frozen dataclass, which is written as TOML. No torch is needed.

What is left out takes the strategy's usual value: fine-tuning starts from weights that are good already, and has usual
values of its own. Optimisers, schedules, losses and augmentations are checked against the cards of their files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from graft.errors import UsageError
from graft.models.weights import DEFAULT_NETWORK
from graft.training.recipe.check import check_names, check_ranges, check_types

Strategy = Literal["auto", "probe", "finetune", "scratch"]
Fit = Literal["squash", "crop", "pad"]
OnBadImage = Literal["skip", "strict"]
Precision = Literal["auto", "float32", "bfloat16"]
Keep = Literal["best", "last"]
ClassWeights = Literal["none", "balanced"]
Normalizing = Literal["channels", "mean-image", "none"]
Unfreeze = Literal["at-once", "gradual"]

PICTURES: Final = "The pictures"
NETWORK: Final = "The network"
RUN: Final = "The run"
TRAINING: Final = "Training and fine-tuning"
HERE: Final = "Here"
"""The group of settings that say where a run works and how it is started: no part of what it learns."""

_LEFT_OUT: Final[Any] = object()  # the value of a setting until the strategy says what is usual


def _setting(usual: Any, help: str, *, tuned: Any = _LEFT_OUT, group: str = TRAINING) -> Any:  # noqa: A002
    """A field of the recipe. usual: its value where it is left out; tuned: the same when a pretrained network is tuned.

    help: what it is, its unit and range, as a comment in TOML and the help of a flag.
    """
    differs = tuned is not _LEFT_OUT
    facts = {"help": help, "usual": usual, "tuned": tuned if differs else usual, "group": group}
    return field(default=_LEFT_OUT if differs else usual, metadata=facts)


@dataclass(frozen=True)
class Recipe:
    """All that decides a run, besides the pictures. None means off, or what the setting's help says.

    `graft train --help` lists what each is. The training loop reads those of the group TRAINING, `seed` and
    `class_weights`; `dropout`, `dropconnect`, `stochastic_depth`, `activation` and `initialization` change the network,
    and are applied by whoever builds it. A bad value raises UsageError as the recipe is made.
    """

    strategy: Strategy = _setting(
        "auto",
        "auto: what the data supports, tried. probe: a new head on a pretrained network. finetune: its upper "
        "stages tuned as well. scratch: a whole network from fresh weights",
        group=NETWORK,
    )
    network: str = _setting(DEFAULT_NETWORK, "a name that `graft networks` lists, or timm:NAME", group=NETWORK)
    weights: Path | None = _setting(None, "its pretrained weights, a .safetensors or .pt file", group=NETWORK)
    fit: Fit = _setting("squash", "how pictures fill the square", group=NETWORK)
    probe_on: str = _setting(
        "auto", "what a probe's head stands on: auto, top, or names of stages with commas between them", group=NETWORK
    )
    csv: Path | None = _setting(None, "a CSV of path and label (and split), instead of class folders", group=PICTURES)
    test_fraction: float = _setting(0.2, "share of each class held out for the test", group=PICTURES)
    class_weights: ClassWeights = _setting(
        "none", "balanced: rare classes count as much as common ones", group=PICTURES
    )
    on_bad_image: OnBadImage = _setting(
        "skip", "skip: set unreadable files aside and list them; strict: stop at the first", group=PICTURES
    )
    follow_links: bool = _setting(False, "also read what links point to", group=PICTURES)
    seed: int = _setting(
        0, "decides the split; where weights are trained, their order, augmentation and dropout too", group=RUN
    )
    cache: Path | None = _setting(
        None, "folder for what is computed once; if left out, $GRAFT_CACHE or the system's", group=HERE
    )
    device: str = _setting("auto", "auto, cpu or cuda", group=HERE)
    resume: bool = _setting(False, "go on with the run that was stopped", group=HERE)
    size: int | None = _setting(None, "side of the pictures, pixels; if left out, the network's", group=NETWORK)
    freeze: str | None = _setting(
        None,
        "the highest stage that fine-tuning leaves as it is, or none; if left out, what the advice says",
        group=NETWORK,
    )
    gate: bool = _setting(True, "check the set-up before training from scratch", group=RUN)

    epochs: int = _setting(10, "passes over the training split; with a budget, as many as fit", tuned=3)
    budget: float | None = _setting(None, "seconds that the run may take; replaces epochs")
    batch: int | None = _setting(None, "pictures in one pass; if left out, 128 or fewer")
    accumulate: int = _setting(1, "batches whose gradients make one step")
    optimizer: str = _setting("momentum", "name of the optimiser; gd steps on the whole split", tuned="adamw")
    rate: float | None = _setting(None, "base learning rate; if left out, the optimiser's usual", tuned=1e-4)
    layer_decay: float = _setting(1.0, "what multiplies the rate with each stage below the head", tuned=0.85)
    head_epochs: float = _setting(0.0, "epochs in which the head trains alone, before the rest")
    unfreeze: Unfreeze = _setting("at-once", "gradual: stages join one by one, from the top")
    frozen_statistics: bool = _setting(False, "batch norm keeps the statistics that it came with", tuned=True)
    momentum: float = _setting(0.9, "momentum of the optimisers that have it, 0 to 1")
    weight_decay: float = _setting(5e-4, "decay of weights inside the optimiser, 0 or more", tuned=0.05)
    l1: float = _setting(0.0, "factor of the sum of absolute weights in the loss")
    l2: float = _setting(0.0, "factor of the sum of squared weights in the loss")
    max_norm: float | None = _setting(None, "largest norm of a unit's incoming weights")
    dropout: float | None = _setting(None, "share of features dropped before linear layers")
    dropconnect: float | None = _setting(None, "share of weights dropped in the linear layers")
    stochastic_depth: float | None = _setting(None, "share of steps that skip the last block")
    activation: str | None = _setting(None, "activation in place of the network's own")
    initialization: str | None = _setting(None, "how weights start, in place of the network's own")
    schedule: str = _setting("cosine", "how the rate changes over the run")
    warmup: float = _setting(0.0, "epochs in which the rate rises from 0", tuned=0.5)
    loss: str = _setting("cross-entropy", "the loss that is minimised")
    label_smoothing: float = _setting(0.0, "share of the target spread over all classes", tuned=0.1)
    augment: str = _setting("crop", "none, light, standard, strong, or names joined by commas", tuned="standard")
    mixup: float = _setting(0.0, "alpha of mixup's Beta distribution; 0 is off", tuned=0.2)
    cutmix: float = _setting(0.0, "alpha of CutMix's Beta distribution; 0 is off")
    normalization: Normalizing = _setting("channels", "what is subtracted from the pictures")
    precision: Precision = _setting("auto", "auto: bfloat16 where a short timing gains by it")
    channels_last: bool = _setting(True, "keep maps with channels last in memory")
    clip: float | None = _setting(None, "largest norm of the whole gradient")
    ema: float | None = _setting(None, "decay of the moving average of weights, such as 0.999", tuned=0.99)
    keep: Keep = _setting("best", "which weights the run ends with, by validation accuracy")
    patience: int | None = _setting(None, "epochs without a better one before the run stops")
    tensorboard: bool = _setting(False, "write the history for TensorBoard too")

    def __post_init__(self) -> None:
        usual = self._usual()
        for name, value in usual.items():
            if getattr(self, name) is _LEFT_OUT:
                object.__setattr__(self, name, value)
        check_types(self)
        check_ranges(self)
        check_names(self)
        self._refuse_what_other_strategies_have(usual)

    def trained_by(self) -> dict[str, Any]:
        """The settings that the training loop goes by, by name, as JSON can hold them: a resumed run has the same."""
        return {
            s.name: getattr(self, s.name)
            for s in fields(self)
            if s.metadata["group"] == TRAINING or s.name in ("seed", "class_weights")
        }

    def recorded(self) -> dict[str, Any]:
        """What a model says of the recipe that it was made by: all that decides what is learnt, as JSON can hold it."""
        return {s.name: getattr(self, s.name) for s in _recorded()}

    def to_toml(self) -> str:
        """The recorded settings as TOML, a line each with its help; those that are None are commented out."""
        lines = ["# settings of graft train: flags or --settings FILE"]
        for setting in _recorded():
            value = getattr(self, setting.name)
            line = f"# {setting.name} =" if value is None else f"{setting.name} = {_toml(value)}"
            lines.append(f"{line:<32}# {setting.metadata['help']}")
        return "\n".join(lines) + "\n"

    def _usual(self) -> dict[str, Any]:
        """What each setting is where it is left out.

        A usual value of fine-tuning steps aside where it cannot go with what is given: the rate for another optimiser,
        mixup for CutMix, and label smoothing for a loss without it.
        """
        kind = "usual" if self.strategy == "scratch" else "tuned"
        usual = {s.name: s.metadata[kind] for s in fields(self)}
        if self.optimizer not in (_LEFT_OUT, usual["optimizer"]):
            usual["rate"] = None
        if self.cutmix:
            usual["mixup"] = 0.0
        if self.loss != "cross-entropy":
            usual["label_smoothing"] = 0.0
        return usual

    def _refuse_what_other_strategies_have(self, usual: dict[str, Any]) -> None:
        """Raise UsageError for a setting of another strategy than the chosen one."""
        if self.strategy == "scratch" and self.weights is not None:
            raise UsageError("--weights are for a pretrained network, and --strategy scratch starts from fresh weights")
        if self.strategy != "scratch" and self.size is not None:
            raise UsageError("size: for training from scratch only; add --strategy scratch")
        if self.strategy not in ("auto", "finetune") and self.freeze is not None:
            raise UsageError("freeze: for fine-tuning only; add --strategy finetune")
        if self.strategy == "probe":
            refuse_for_a_probe([name for name in trained() if getattr(self, name) != usual[name]])
        if self.strategy in ("auto", "finetune"):
            for name in ("activation", "initialization", "normalization"):
                if getattr(self, name) != usual[name]:
                    raise UsageError(
                        f"{name}: a pretrained network keeps its own; leave it out, or add --strategy scratch"
                    )


def trained() -> list[str]:
    """The names of the settings that only training has."""
    return [s.name for s in fields(Recipe) if s.metadata["group"] == TRAINING or s.name == "resume"]


def refuse_for_a_probe(given: list[str]) -> None:
    """Raise UsageError where settings of training, by name, are given for a strategy that trains nothing."""
    if given:
        raise UsageError(f"{', '.join(given)}: nothing is trained for a probe; choose another --strategy")


def _recorded() -> list[Any]:
    """The fields that decide what is learnt; paths say where something lies on one machine."""
    return [s for s in fields(Recipe) if s.metadata["group"] != HERE and s.name not in ("csv", "weights")]


def _toml(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)  # TOML reads JSON's numbers and strings
