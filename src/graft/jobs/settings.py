"""What decides a training run besides the pictures. Light to import: `graft train --help` is made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from graft.errors import UsageError, nearest, shown
from graft.training.settings import TrainingSettings

__all__ = ["STRATEGIES", "TrainSettings", "TrainingSettings", "seconds_of", "training_settings"]

STRATEGIES: Final = ("probe", "scratch")
DEFAULT_NETWORK: Final = "efficientnet-lite0"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a run, besides the pictures. `graft train --help` says what each is.

    size: side of the pictures, pixels, for training from scratch; None for the network's own. training: how a network
    is trained from scratch. gate: whether it is checked first. resume: go on with a run that was stopped.
    """

    csv: Path | None = None
    strategy: str = "probe"
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
        if self.strategy != "scratch":
            self._refuse_what_only_scratch_has()

    def _refuse_what_only_scratch_has(self) -> None:
        given = [name for name in ("size", "training", "resume") if getattr(self, name)]
        if given:
            raise UsageError(f"{', '.join(given)}: for training from scratch only; add --strategy scratch")


def training_settings(
    given: dict[str, Any], *, file: Path | None, seed: int, class_weights: str
) -> TrainingSettings | None:
    """The settings in `file` (TOML), with those in `given` that are not None in their place; None without either.

    given: by the names of TrainingSettings; `budget` as text, such as "5m".
    Raises UsageError for a file that cannot be read, and for what TrainingSettings refuses.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if file is None and not chosen:
        return None
    if "budget" in chosen:
        chosen["budget"] = seconds_of(chosen["budget"])
    chosen |= {"seed": seed, "class_weights": class_weights}
    if file is None:
        return TrainingSettings(**chosen)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--settings needs a TOML file, {shown(file)} cannot be read as one ({error})") from error
    return replace(TrainingSettings.from_toml(text), **chosen)


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
