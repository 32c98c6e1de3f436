"""What decides a training run besides the pictures. Light to import: `graft train --help` is made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from graft.errors import UsageError, nearest, shown
from graft.training.recipe.settings import TrainingSettings, read_toml

__all__ = [
    "FINETUNING",
    "STRATEGIES",
    "TrainSettings",
    "TrainingSettings",
    "finetuning",
    "seconds_of",
    "training_settings",
]

STRATEGIES: Final = ("auto", "probe", "finetune", "scratch")
FINETUNING: Final[dict[str, Any]] = {
    "epochs": 3,
    "optimizer": "adamw",
    "rate": 1e-4,
    "layer_decay": 0.85,
    "weight_decay": 0.05,
    "warmup": 0.5,
    "label_smoothing": 0.1,
    "augment": "standard",
    "mixup": 0.2,
    "ema": 0.99,
    "frozen_statistics": True,
}
"""Settings of fine-tuning where they differ from those of training from scratch."""

DEFAULT_NETWORK: Final = "efficientnet-lite0"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a run, besides the pictures. `graft train --help` says what each is.

    strategy: auto, probe, finetune or scratch. size: side of the pictures, pixels, for training from scratch; None for
    the network's own. training: how a network is trained or tuned. freeze: the highest stage that fine-tuning leaves as
    it is, "none" for tuning all; None for what the advice says. probe_on: what a probe stands on: auto, top, or stages
    by name with commas between them. gate: whether a set-up is checked before it is trained from scratch. resume: go on
    with a run that was stopped.
    """

    csv: Path | None = None
    strategy: str = "auto"
    network: str = DEFAULT_NETWORK
    weights: Path | None = None
    fit: str = "squash"
    test_fraction: float = 0.2
    class_weights: str = "none"
    on_bad_image: str = "skip"
    follow_links: bool = False
    seed: int = 0
    cache: Path | None = None
    device: str = "auto"
    size: int | None = None
    training: TrainingSettings | None = None
    freeze: str | None = None
    probe_on: str = "auto"
    gate: bool = True
    resume: bool = False

    def __post_init__(self) -> None:
        from graft.data.preprocess import FITS

        for option, value, allowed in (
            ("--strategy", self.strategy, STRATEGIES),
            ("--fit", self.fit, FITS),
            ("--class-weights", self.class_weights, ("none", "balanced")),
            ("--on-bad-image", self.on_bad_image, ("skip", "strict")),
        ):
            if value not in allowed:
                raise UsageError(
                    f"{option} must be one of {', '.join(allowed)}, got {shown(value)!r}{nearest(value, allowed)}"
                )
        if not 0 < self.test_fraction < 1:
            raise UsageError(f"--test-fraction must lie between 0 and 1, got {self.test_fraction}; 0.2 is usual")
        if self.strategy == "scratch" and self.weights is not None:
            raise UsageError("--weights are for a pretrained network, and --strategy scratch starts from fresh weights")
        self._refuse_what_others_have()

    def _refuse_what_others_have(self) -> None:
        """Raise UsageError for a setting of another strategy than the chosen one."""
        if self.strategy != "scratch" and self.size is not None:
            raise UsageError("size: for training from scratch only; add --strategy scratch")
        if self.strategy not in ("auto", "finetune") and self.freeze is not None:
            raise UsageError("freeze: for fine-tuning only; add --strategy finetune")
        given = [name for name in ("training", "resume") if getattr(self, name)]
        if self.strategy == "probe" and given:
            raise UsageError(f"{', '.join(given)}: nothing is trained for a probe; choose another --strategy")
        if self.strategy in ("auto", "finetune") and self.training is not None:
            for name, usual in (("activation", None), ("initialization", None), ("normalization", "channels")):
                if getattr(self.training, name) != usual:
                    raise UsageError(
                        f"{name}: a pretrained network keeps its own; leave it out, or add --strategy scratch"
                    )


def finetuning(**given: Any) -> TrainingSettings:
    """The settings of fine-tuning, with those that are given in their place.

    A default steps aside for what is given where both cannot be: the rate for another optimiser, mixup for CutMix, and
    label smoothing for a loss without it.
    """
    usual = dict(FINETUNING)
    if given.get("optimizer", usual["optimizer"]) != usual["optimizer"]:
        del usual["rate"]
    if given.get("cutmix"):
        del usual["mixup"]
    if given.get("loss", "cross-entropy") != "cross-entropy":
        del usual["label_smoothing"]
    return TrainingSettings(**{**usual, **given})


def training_settings(given: dict[str, Any], *, file: Path | None, strategy: str) -> TrainingSettings | None:
    """The settings in `file` (TOML), with those in `given` that are not None in their place; None without either.

    given: by the names of TrainingSettings; `budget` as text, such as "5m". Those that probes have too, `seed` and
    `class_weights`, are none by themselves. strategy: what they are for, which decides the others.
    Raises UsageError for a file that cannot be read, and for what TrainingSettings refuses.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if file is None and not chosen.keys() - {"seed", "class_weights"}:
        return None
    if "budget" in chosen:
        chosen["budget"] = seconds_of(chosen["budget"])
    values = {} if file is None else read_toml(_text(file))
    make = TrainingSettings if strategy == "scratch" else finetuning
    return make(**{**values, **chosen})


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--settings needs a TOML file, {shown(file)} cannot be read as one ({error})") from error


def seconds_of(duration: str) -> float:
    """Seconds in a duration such as "90", "5m" or "1.5h". Raises UsageError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", duration.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"--budget must be a time such as 90s, 5m or 1.5h, got {shown(duration)!r}")
    return float(found[1]) * _UNITS[found[2]]


def changed(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    usual = TrainingSettings()
    return {
        s.name: getattr(settings, s.name)
        for s in fields(settings)
        if getattr(settings, s.name) != getattr(usual, s.name)
    }
