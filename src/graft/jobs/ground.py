"""What a run on a pretrained network stands on, and what grows on it: the classifier that is put into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.data.preprocess import Preprocess
from graft.errors import UsageError, nearest, shown
from graft.jobs.learnt import Gathered
from graft.models.weights import Source
from graft.runtime.device import Device
from graft.store.table import Store
from graft.training.history import History
from graft.transfer.advice import Strategy
from graft.transfer.probe import Probe
from graft.transfer.trunk import Trunk

NOTHING: Final = "none"
"""What `--freeze` says where no stage is to be frozen."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What a run stands on once every picture went through the frozen network.

    fold: (n,) for the training pictures, which part of the cross-validation holds each out, −1 where none does.
    """

    trunk: Trunk
    source: Source
    preprocess: Preprocess
    gathered: Gathered
    fold: NDArray[np.int64]
    store: Store
    cache: Path
    device: Device


@dataclass(frozen=True, eq=False)
class Grown:
    """A classifier that is ready to be scored on the test pictures and put into a folder.

    said: (n, K) probabilities by part of the split, from fits that never saw the pictures. probe: the search for the
    head's strength, where there was one. record: what the manifest says of it, beside what it says of every run.
    """

    strategy: Strategy
    words: str
    graph: bytes
    tensors: dict[str, NDArray[Any]]
    gathered: Gathered
    said: dict[str, NDArray[np.float32]]
    history: bytes
    head: str
    head_kind: str = "logistic"
    calibration: str = "none"
    arguments: dict[str, str] = field(default_factory=dict)
    probe: Probe | None = None
    curves: History | None = None
    record: dict[str, Any] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned network as a model, and the seconds that it took."""

    grown: Grown
    seconds: float


def stage_above(freeze: str, stages: Sequence[str]) -> str:
    """The lowest stage that is tuned where `freeze` is the highest that is not.

    stages: of the network, from the picture upwards. Raises UsageError for a stage that is not there, or the last.
    """
    if freeze == NOTHING:
        return stages[0]
    if freeze not in stages[:-1]:
        raise UsageError(
            f"--freeze must be {NOTHING} or a stage below the last, {', '.join(stages[:-1])}, got {shown(freeze)!r}"
            f"{nearest(freeze, (NOTHING, *stages[:-1]))}"
        )
    return stages[stages.index(freeze) + 1]
