"""Making the plan of a run: a few passes are tried and timed before the first step, on a copy of the network."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from graft.training.cpu.precision import choose_batch, choose_precision
from graft.training.loop.checkpoint import write
from graft.training.loop.distributed import World
from graft.training.loop.objective import Objective
from graft.training.loop.plan import Plan, batch_of, pictures_per_step, steps_within
from graft.training.loop.source import Batching, Source
from graft.training.loop.state import State, fresh
from graft.training.loop.step import Task, evaluate, rate_at, rest_of_epoch, take_step, task_of
from graft.training.recipe import optimizers
from graft.training.recipe.normalize import Normalization
from graft.training.recipe.settings import Recipe

_REHEARSED_STEPS: Final = 20  # at most
_REHEARSED_SHARE: Final = 0.05  # of the budget, at most


@dataclass(frozen=True, eq=False)
class Trial:
    """What is tried before the first step: a network with what it shall learn from, and how."""

    network: nn.Module
    train: Source
    val: Source | None
    settings: Recipe
    objective: Objective
    normalization: Normalization | None
    depths: Mapping[str, int] | None
    device: str

    def task(self, plan: Plan) -> Task:
        """The task of one process by a plan."""
        return task_of(self.settings, plan, self.objective, self.train, self.normalization, World(), self.device)


def decide(trial: Trial, pool: ThreadPoolExecutor, folder: Path) -> Plan:
    """Find out what the settings leave open: the batch that fits, the precision, and how many steps a budget holds.

    pool: prepares batches. folder: where checkpoints will go. Raises GraftError when not even one picture fits.
    """
    began = time.perf_counter()
    settings, train, device = trial.settings, trial.train, trial.device
    per_step = pictures_per_step(settings, len(train))
    plan = Plan(
        classes=trial.objective.classes or 0,
        rate=settings.rate or optimizers.find(settings.optimizer).rate,
        per_step=per_step,
        batch=min(batch_of(settings, len(train)), per_step),
        steps_per_epoch=-(-len(train) // per_step),
        steps=settings.epochs * -(-len(train) // per_step),
        precision="float32" if settings.precision == "auto" else settings.precision,
        threads=torch.get_num_threads(),
    )
    batching = Batching(trial.normalization, 1, settings.seed, channels_last=settings.channels_last)

    def first(count: int) -> tuple[Tensor, Tensor]:
        batch = train.batch(np.arange(count), batching=batching, epoch=0)
        return batch.x.to(device), batch.target.to(device)

    losses = trial.objective.losses
    plan = replace(plan, batch=choose_batch(trial.network, first, losses, plan.batch, device))
    if settings.precision == "auto":
        plan = replace(plan, precision=choose_precision(trial.network, *first(plan.batch), losses, device))
    if settings.budget is None:
        return plan
    step_seconds, epoch_end = _rehearse(trial, plan, pool, folder)
    left = settings.budget - (time.perf_counter() - began)
    steps = steps_within(
        left,
        seconds_per_step=step_seconds,
        seconds_per_epoch_end=epoch_end,
        steps_per_epoch=plan.steps_per_epoch,
    )
    return replace(plan, steps=steps)


def one(train: Source, settings: Recipe, normalization: Normalization | None) -> Tensor:
    """The first sample as the network takes it: (1, C, H, W)."""
    batching = Batching(normalization, 1, settings.seed, channels_last=settings.channels_last)
    return train.batch(np.zeros(1, np.int64), batching=batching, epoch=0).x


def _rehearse(trial: Trial, plan: Plan, pool: ThreadPoolExecutor, folder: Path) -> tuple[float, float]:
    """Seconds of a step and of the end of an epoch, from the first steps of the run on a copy of the network.

    All stages train in these steps, also those that join later: a run whose head trains alone at first ends early.
    """
    budget = trial.settings.budget
    assert budget is not None
    began = time.perf_counter()
    values = len(trial.objective.names)
    state = fresh(copy.deepcopy(trial.network), trial.settings, trial.device, trial.depths, values=values)
    task = trial.task(plan)
    state.network.train()
    marks: list[float] = []
    for pictures, batches in rest_of_epoch(task, 0, trial.train, pool):
        take_step(task, state, state.network, batches, pictures, rate_at(task, state))
        marks.append(time.perf_counter())
        spent = marks[-1] - marks[0]  # the first step also chooses kernels
        if len(marks) > _REHEARSED_STEPS or (len(marks) > 2 and spent > _REHEARSED_SHARE * budget):
            break
    step = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else time.perf_counter() - began
    return step, 2 * _writing_seconds(state, folder) + _evaluation_seconds(task, state, trial.val, pool)


def _writing_seconds(state: State, folder: Path) -> float:
    """Seconds that a checkpoint takes; the best weights take no more."""
    began = time.perf_counter()
    trial = folder / "trial.safetensors"
    write(trial, state.checkpoint({}).tensors, {})
    trial.unlink()
    return time.perf_counter() - began


def _evaluation_seconds(task: Task, state: State, val: Source | None, pool: ThreadPoolExecutor) -> float:
    """Seconds of looking at the whole validation split, by a part of it; twice that where weights are averaged."""
    if val is None:
        return 0.0
    part = val.take(np.arange(min(len(val), 2 * task.plan.batch)))
    evaluate(task, state.candidate, part, pool)  # the first pass of a shape also chooses its kernels
    began = time.perf_counter()
    evaluate(task, state.candidate, part, pool)
    return (time.perf_counter() - began) * len(val) / len(part) * (1 if state.average is None else 2)
