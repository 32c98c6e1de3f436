"""All that changes while a network trains, as it goes into a checkpoint and comes back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from graft.errors import UsageError
from graft.training.loop.average import moving_average
from graft.training.loop.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from graft.training.loop.distributed import World
from graft.training.loop.history import Score
from graft.training.recipe import optimizers
from graft.training.recipe.schedules import Plateau
from graft.training.recipe.settings import Recipe


@dataclass(frozen=True)
class Best:
    """The best epoch so far. epoch: from 1. rank: of its validation score, as the objective ranks scores."""

    epoch: int
    step: int
    rank: tuple[float, ...]

    @property
    def file(self) -> str:
        """Where its weights are, in the folder of the run."""
        return f"best-{self.step}.safetensors"


@dataclass
class Sums:
    """What a stretch of training adds up to. totals: (1 + V,) float64, losses and V counted values; on the device."""

    totals: Tensor
    pictures: int = 0

    @staticmethod
    def zero(device: str, values: int) -> Sums:
        """Nothing yet. values: how many are counted beside the loss."""
        return Sums(torch.zeros(1 + values, dtype=torch.float64, device=device))

    def add(self, other: Sums) -> None:
        """Take another stretch in."""
        self.totals += other.totals
        self.pictures += other.pictures

    def over(self, world: World) -> Sums:
        """These sums and those of all other processes."""
        if world.size == 1:
            return self
        count = torch.tensor([self.pictures], dtype=torch.float64, device=self.totals.device)
        together = world.summed(torch.cat((self.totals, count)))
        return Sums(together[:-1], int(together[-1]))

    def score(self, names: tuple[str, ...]) -> Score:
        """Mean loss and values, by name; waits for the device."""
        loss, *values = (total / self.pictures for total in self.totals.tolist())
        return Score(loss, dict(zip(names, values, strict=True)))


@dataclass
class State:
    """A run at a step boundary.

    step: updates done. seconds: of the run so far, over all its resumptions; working: those spent on steps. pictures:
    trained on in these. window, epoch: sums since the last line of history, and of the epoch
    before that. stale: epochs since the best one. why: why the run has ended, or None.
    """

    network: nn.Module
    optimizer: Optimizer
    average: AveragedModel | None
    window: Sums
    epoch: Sums
    plateau: Plateau = field(default_factory=Plateau)
    best: Best | None = None
    step: int = 0
    stale: int = 0
    seconds: float = 0.0
    working: float = 0.0
    pictures: int = 0
    why: str | None = None

    @property
    def candidate(self) -> nn.Module:
        """The network that is evaluated and kept: the average of its weights where there is one."""
        return self.network if self.average is None else self.average.module

    def is_finite(self) -> bool:
        """Whether every weight is a number; waits for the device."""
        return all(bool(tensor.isfinite().all()) for tensor in self.network.state_dict().values())

    def checkpoint(self, constants: Mapping[str, Any]) -> Checkpoint:
        """The state as tensors and facts. constants: facts that every checkpoint of the run carries."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        moments, rest = optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer.{name}": tensor for name, tensor in moments.items()}
        tensors |= {"window": self.window.totals, "epoch": self.epoch.totals}
        facts = {
            "step": self.step,
            "stale": self.stale,
            "seconds": self.seconds,
            "working": self.working,
            "pictures": self.pictures,
            "why": self.why,
            "window": self.window.pictures,
            "epoch": self.epoch.pictures,
            "plateau": self.plateau.state_dict(),
            "best": None if self.best is None else asdict(self.best),
            "best_file": None if self.best is None else self.best.file,
            "optimizer": rest,
        }
        return Checkpoint(self.step, tensors, {**facts, **constants})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up a checkpoint. Raises UsageError when it is one of another network."""
        facts = checkpoint.facts
        weights = under("network", checkpoint.tensors)
        shapes = {name: tuple(tensor.shape) for name, tensor in self.network.state_dict().items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
            raise UsageError(
                "the run to resume trains another network than the one given; build it with the arguments it had then"
            )
        self.network.load_state_dict(weights)
        if self.average is not None:
            self.average.load_state_dict(under("average", checkpoint.tensors))
        restore_optimizer(self.optimizer, under("optimizer", checkpoint.tensors), facts["optimizer"])
        self.plateau.load_state_dict(facts["plateau"])
        device = self.window.totals.device
        self.window = Sums(checkpoint.tensors["window"].to(device), facts["window"])
        self.epoch = Sums(checkpoint.tensors["epoch"].to(device), facts["epoch"])
        self.best = None if facts["best"] is None else _best(facts["best"])
        self.step, self.stale, self.pictures = facts["step"], facts["stale"], facts["pictures"]
        self.seconds, self.working, self.why = facts["seconds"], facts["working"], facts["why"]


def _best(facts: Mapping[str, Any]) -> Best:
    """The best epoch as a checkpoint has it; earlier ones had an accuracy and a loss in place of a rank."""
    rank = facts["rank"] if "rank" in facts else (facts["accuracy"], -facts["loss"])
    return Best(facts["epoch"], facts["step"], tuple(rank))


def fresh(network: nn.Module, settings: Recipe, device: str, depths: Mapping[str, int] | None, *, values: int) -> State:
    """The state of a run that begins: the network, moved to where and how it trains, and an optimiser for it.

    depths: stages between each parameter and the head, where the network has such. values: how many are counted beside
    the loss.
    """
    memory = torch.channels_last if settings.channels_last else torch.preserve_format
    network.to(device=device, memory_format=memory)  # type: ignore[call-overload]  # torch's stub leaves it out
    optimizer = optimizers.optimizer(
        settings.optimizer,
        optimizers.parameter_groups(network, settings.weight_decay, depths=depths, layer_decay=settings.layer_decay),
        rate=settings.rate or optimizers.find(settings.optimizer).rate,
        momentum=settings.momentum,
        seed=settings.seed,
    )
    average = None if settings.ema is None else moving_average(network, settings.ema)
    return State(network, optimizer, average, Sums.zero(device, values), Sums.zero(device, values))


def under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named `part.…`, without that."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
