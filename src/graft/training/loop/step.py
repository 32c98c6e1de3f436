"""One step of training, and one look at the validation split."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from graft.data.augmentation import policies
from graft.data.augmentation.augment import Augmentation, policy
from graft.data.augmentation.colour import colour_components
from graft.data.augmentation.mixing import Kind
from graft.training.cpu.precision import autocast
from graft.training.loop.batches import ahead, epoch_steps, shard, split
from graft.training.loop.distributed import World
from graft.training.loop.history import Score
from graft.training.loop.objective import Objective
from graft.training.loop.pictures import Pictures
from graft.training.loop.plan import Plan
from graft.training.loop.source import Batch, Batching, Source
from graft.training.loop.state import State, Sums
from graft.training.recipe import optimizers
from graft.training.recipe.normalize import Normalization
from graft.training.recipe.regularize import max_norm_, penalty
from graft.training.recipe.schedules import factor
from graft.training.recipe.settings import Recipe

_COLOURS_OF: Final = 2048  # pictures


@dataclass(frozen=True)
class Task:
    """What a run computes, the same at every step."""

    settings: Recipe
    plan: Plan
    batching: Batching
    objective: Objective
    world: World
    device: str


def task_of(
    settings: Recipe,
    plan: Plan,
    objective: Objective,
    train: Source,
    normalization: Normalization | None,
    world: World,
    device: str,
) -> Task:
    """The task that settings, plan and objective describe."""
    mixing: tuple[Kind, float] | None = None
    if settings.mixup or settings.cutmix:
        mixing = ("mixup", settings.mixup) if settings.mixup else ("cutmix", settings.cutmix)
    batching = Batching(
        normalization, objective.classes or 0, settings.seed, _policy(settings, train), mixing, settings.channels_last
    )
    return Task(settings, plan, batching, objective, world, device)


def _policy(settings: Recipe, train: Source) -> tuple[Augmentation, ...]:
    """The augmentations of a run; colour noise is drawn along the components of up to 2,048 of its own pictures."""
    noisy = "pca" in (card.name for card in policies.parse(settings.augment))
    if not (noisy and isinstance(train, Pictures) and train.shape[2] == 3):
        return policy(settings.augment)
    some = np.linspace(0, len(train) - 1, min(len(train), _COLOURS_OF)).astype(np.int64)
    return policy(settings.augment, components=colour_components(train.read(some)))


def rate_at(task: Task, state: State) -> float:
    """The learning rate of the step that comes next; the head's, where stages have rates of their own."""
    plan, settings = task.plan, task.settings
    shape = factor(
        settings.schedule,
        step=state.step,
        steps=plan.steps,
        steps_per_epoch=plan.steps_per_epoch,
        warmup_steps=_warmup_steps(settings, plan),
    )
    return plan.rate * shape * state.plateau.factor


def rest_of_epoch(
    task: Task, step: int, train: Source, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Iterator[Batch]]]:
    """The steps from `step` to the end of its epoch or of the run: how many pictures each takes, and its batches.

    The batches are this process's part of the step, prepared ahead on the pool; take them all before the next step.
    """
    plan, seed = task.plan, task.settings.seed
    epoch, done = divmod(step, plan.steps_per_epoch)
    steps = epoch_steps(seed, epoch, len(train), plan.per_step)[done : done + plan.steps - step]
    passes = [split(shard(positions, task.world.rank, task.world.size), plan.batch) for positions in steps]
    make = partial(train.batch, batching=task.batching, epoch=epoch)
    with contextlib.closing(ahead(make, list(chain(*passes)), pool)) as batches:
        for positions, parts in zip(steps, passes, strict=True):
            yield len(positions), islice(batches, len(parts))


def take_step(
    task: Task, state: State, forward: nn.Module, batches: Iterable[Batch], pictures: int, rate: float
) -> Sums:
    """Change the weights once.

    forward: the state's network, or the same in parallel. batches: this process's part of the step's pictures.
    pictures: of the step, in all processes. Returns the sums over this process's part.
    """
    settings = task.settings
    torch.manual_seed(_step_seed(settings.seed, state.step, task.world.rank))
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    if optimizers.find(settings.optimizer).gradients:
        sums = _backward(task, forward, batches, pictures)
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
    else:
        sums = _search(task, state, list(batches), pictures)
    if settings.max_norm is not None:
        max_norm_(state.network, settings.max_norm)
    if state.average is not None:
        state.average.update_parameters(state.network)
    return sums


def _backward(task: Task, forward: nn.Module, batches: Iterable[Batch], pictures: int) -> Sums:
    """Gradients of the mean loss over a step's pictures, and of the penalty, added up over its passes.

    Processes average their gradients: each one's part is therefore scaled by their number.
    """
    sums = Sums.zero(task.device, len(task.objective.names))
    waiting = iter(batches)
    batch = next(waiting, None)
    while batch is not None:
        following = next(waiting, None)
        parallel = isinstance(forward, DistributedDataParallel) and following is not None
        with forward.no_sync() if parallel else contextlib.nullcontext():  # type: ignore[operator]
            objective, added = _objective(task, forward, batch, pictures)
            objective.backward()  # type: ignore[no-untyped-call]
        sums.add(added)
        batch = following
    return sums


def _objective(task: Task, forward: nn.Module, batch: Batch, pictures: int) -> tuple[Tensor, Sums]:
    """This batch's part of what a step minimises, and its losses and counts."""
    settings = task.settings
    x, target = batch.x.to(task.device), batch.target.to(task.device)
    with autocast(task.device, task.plan.precision):
        outputs = forward(x)
    each = task.objective.losses(outputs, target)  # (n,)
    objective = each.sum() * (task.world.size / pictures)
    if settings.l1 or settings.l2:
        share = len(x) * task.world.size / pictures
        objective = objective + share * penalty(forward, l1=settings.l1, l2=settings.l2)
    return objective, _sums(task, outputs, target, each.detach())


def _search(task: Task, state: State, batches: list[Batch], pictures: int) -> Sums:
    """One try of random search: the loss before and after it is taken on the same batches."""

    @torch.no_grad()
    def loss() -> Tensor:
        return torch.stack([_objective(task, state.network, batch, pictures)[0] for batch in batches]).sum()

    state.optimizer.step(loss)  # type: ignore[arg-type]  # torch says float, and takes a tensor
    sums = Sums.zero(task.device, len(task.objective.names))
    with torch.no_grad():
        for batch in batches:
            sums.add(_objective(task, state.network, batch, pictures)[1])
    return sums


@torch.no_grad()
def _sums(task: Task, outputs: Any, target: Tensor, losses: Tensor) -> Sums:
    """The sums of a batch: its losses, and what the objective counts."""
    counts = task.objective.counts(outputs, target)
    return Sums(torch.cat((losses.sum(dtype=torch.float64)[None], counts)), len(losses))


def evaluate(task: Task, network: nn.Module, pictures: Source, pool: ThreadPoolExecutor) -> Score:
    """Mean loss and values of a network over all pictures, in evaluation mode and float32; the mode is put back."""
    make = partial(pictures.batch, batching=task.batching.plain(), epoch=0)
    training = network.training
    mine = shard(np.arange(len(pictures)), task.world.rank, task.world.size)
    sums = Sums.zero(task.device, len(task.objective.names))
    network.eval()
    with (
        torch.inference_mode(),
        contextlib.closing(ahead(make, split(mine, task.plan.batch), pool)) as batches,
    ):
        for batch in batches:
            x, target = batch.x.to(task.device), batch.target.to(task.device)
            outputs = network(x)
            sums.add(_sums(task, outputs, target, task.objective.plain(outputs, target)))
    network.train(training)
    return sums.over(task.world).score(task.objective.names)


def _step_seed(seed: int, step: int, rank: int) -> int:
    """What dropout and its like are drawn from in one step of one process."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _warmup_steps(settings: Recipe, plan: Plan) -> int:
    """As many as were asked for; half of the run at most where a budget decides how long that is."""
    steps = round(settings.warmup * plan.steps_per_epoch)
    return steps if settings.budget is None else min(steps, plan.steps // 2)
