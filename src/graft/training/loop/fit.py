"""The training loop: one function from top to bottom, `fit`, on plain functions and a state that a checkpoint holds.

Resuming is exact. Order, augmentation and mixing follow from (seed, epoch, picture), dropout from (seed, step); all
else is in the checkpoint, with the decisions that were made by timing: precision, batch, number of steps and threads.
On one machine, with the same versions, the weights of a run that was killed and resumed are those of one that was not,
bit for bit. A budget is turned into a number of steps before the first one; should the clock yet strike before they are
done, the run stops there, and only where it stops depends on the time.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from graft.errors import UsageError, shown
from graft.training.cpu.batch_norm import folded_batch_norm, kept_statistics
from graft.training.cpu.depthwise import fast_depthwise
from graft.training.cpu.padding import plain_padding
from graft.training.loop.batches import preparing_pool
from graft.training.loop.checkpoint import load_newest, only_run, read, save_checkpoint, write
from graft.training.loop.decide import Trial, decide, one
from graft.training.loop.distributed import World
from graft.training.loop.divergence import explain
from graft.training.loop.history import HISTORY, End, Epoch, Event, Step
from graft.training.loop.objective import MakeObjective
from graft.training.loop.plan import Plan, fingerprint, refuse_unfit
from graft.training.loop.record import Record, opening
from graft.training.loop.source import Source
from graft.training.loop.state import Best, State, Sums, fresh, under
from graft.training.loop.step import evaluate, rate_at, rest_of_epoch, take_step, task_of
from graft.training.recipe import schedules
from graft.training.recipe.classification import classification
from graft.training.recipe.depth import check_depths, unfreezing
from graft.training.recipe.normalize import Normalization
from graft.training.recipe.settings import Recipe

LINES_PER_EPOCH: Final = 20  # steps that are written to the history, at most
CHECKPOINT_SECONDS: Final = 60.0  # between checkpoints within an epoch
EPOCH_SECONDS: Final = 1.0  # between those at the ends of epochs, which may be short
NOT_FINITE: Final = "not finite"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run ends with.

    state: the kept weights, on the CPU: the best epoch's or the last. best_epoch: from 1; None without validation.
    epochs: begun. why: "epochs", "budget", "patience" or "not finite". reason: for the last, likely causes in order.
    seconds: of all, resumptions added. pictures_per_second: trained on, evaluation left out. batch: pictures in one
    pass. notices: what the user should know, such as a damaged checkpoint that was passed over.
    """

    state: dict[str, Tensor]
    best_epoch: int | None
    epochs: int
    why: str
    reason: str
    seconds: float
    history: Path
    pictures_per_second: float
    precision: str
    batch: int
    notices: tuple[str, ...]


def _nobody(_event: Event) -> None:
    """Show events to nobody."""


def fit(
    network: nn.Module,
    train: Source,
    val: Source | None,
    settings: Recipe,
    *,
    normalization: Normalization | None,
    folder: Path,
    objective: MakeObjective | None = None,
    depths: Mapping[str, int] | None = None,
    world: World | None = None,
    resume: bool = False,
    watch: Callable[[Event], None] = _nobody,
    device: str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Outcome:
    """Train a network; it ends with the kept weights, in evaluation mode.

    network: takes the sources' batches, (N, C, H, W), and gives what the objective reads, such as (N, K) logits; it is
    changed in place, from the weights it has. normalization: None where the sources give what the network takes.
    folder: gets the history, two checkpoints and the best weights. objective: what is minimised and counted; telling
    classes apart as the settings say, if left out. depths: stages from each parameter to the head, for settings that go
    by them. world: the processes that train together, which all call this alike; `distributed.here()` says it, where
    `torch.distributed` is initialised. resume: go on from the folder's newest sound checkpoint. watch: is shown each
    event of the history.
    Raises UsageError for settings that do not fit the data, and a folder in use or with (resume: without) this run.
    """
    began, world = time.perf_counter(), world or World()
    refuse_unfit(settings, train, val, world.size)
    check_depths(network, depths, settings)
    with contextlib.ExitStack() as stack:
        if world.leads:
            stack.enter_context(only_run(folder))
        stack.enter_context(torch.random.fork_rng(devices=[] if device == "cpu" else [torch.cuda.current_device()]))
        stack.callback(torch.set_num_threads, torch.get_num_threads())  # a resumed run takes the number it had
        pool = stack.enter_context(preparing_pool())
        stack.enter_context(plain_padding(network))
        if device == "cpu":
            stack.enter_context(fast_depthwise(network))

        # The state, new or as the newest checkpoint has it, and what is decided once for the whole run.
        saved, notices = world.agreed(load_newest(folder) if world.leads else (None, ()))
        if (saved is not None) != resume:
            raise UsageError(_misplaced(folder, resume))
        identity = {"settings": settings.trained_by(), "data": fingerprint(train, val, normalization)}
        sample = one(train, settings, normalization).to(device)
        with torch.inference_mode():
            outputs = network.to(device).eval()(sample)
        aim = (objective or partial(classification, settings))(train, val, outputs)
        state = fresh(network, settings, device, depths, values=len(aim.names))
        stack.enter_context(kept_statistics(network, everywhere=settings.frozen_statistics))
        if settings.frozen_statistics:
            stack.enter_context(folded_batch_norm(network.train(), sample))
        if saved is None:
            trial = Trial(network, train, val, settings, aim, normalization, depths, device)
            plan = world.agreed(decide(trial, pool, folder))
        else:
            _refuse_another(identity, saved.facts, folder)
            state.restore(saved)
            plan = Plan(**saved.facts["plan"])
        torch.set_num_threads(plan.threads)
        constants = {**identity, "plan": asdict(plan)}
        task = task_of(settings, plan, aim, train, normalization, world, device)
        stages = unfreezing(network, depths, settings, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch)
        stack.callback(stages.apply, network, stages.deepest)  # all that trained at last can train when it has ended
        reach = None
        record = Record(
            folder, after_step=state.step, watch=watch, tensorboard=settings.tensorboard, mute=not world.leads
        )
        stack.callback(record.close)
        if saved is None and world.leads:
            save_checkpoint(folder, state.checkpoint(constants))  # what a resumed run would start from
        if not record.begun:
            record.write(*opening(network, train, val, settings, plan, device))

        clock = began - state.seconds
        saved_at, last_loss, reason = time.perf_counter(), None, ""
        while state.why is None:
            # An epoch, or what is left of it. Every so many steps a line of history waits for the device.
            epoch = state.step // plan.steps_per_epoch
            end = min(plan.steps, (epoch + 1) * plan.steps_per_epoch)
            network.train()
            mark = time.perf_counter()
            line = (mark, state.pictures)
            for pictures, batches in rest_of_epoch(task, state.step, train, pool):
                if reach != stages.reach(state.step):  # the run begins, or a stage joins
                    reach = stages.reach(state.step)
                    stages.apply(network, reach)
                    forward = world.parallel(network.train())
                rate = rate_at(task, state)
                state.window.add(take_step(task, state, forward, batches, pictures, rate))
                state.step += 1
                state.pictures += pictures
                now = time.perf_counter()
                state.seconds, state.working, mark = now - clock, state.working + now - mark, now
                if (end - state.step) % _steps_per_line(plan) == 0:
                    seen = state.window.over(world)
                    loss = seen.score(aim.names).loss
                    speed = (state.pictures - line[1]) / (now - line[0])
                    place = state.step / plan.steps_per_epoch
                    record.write(Step("step", state.step, place, loss, rate, speed, state.seconds))
                    if not math.isfinite(loss):
                        state.why = NOT_FINITE
                        break
                    last_loss, line = loss, (now, state.pictures)
                    state.epoch.add(seen)
                    state.window = Sums.zero(device, len(aim.names))
                    if world.agreed(settings.budget is not None and state.seconds > settings.budget):
                        state.why = "budget"
                        break
                if world.leads and state.step < end and now - saved_at >= checkpoint_seconds and state.is_finite():
                    save_checkpoint(folder, state.checkpoint(constants))
                    saved_at = mark = time.perf_counter()

            # The end of the epoch: what the validation split says, whether it is the best yet, whether to go on.
            score = None if val is None or state.why == NOT_FINITE else evaluate(task, state.candidate, val, pool)
            if not state.is_finite() or (score is not None and not math.isfinite(score.loss)):
                state.why = NOT_FINITE
            if state.why == NOT_FINITE:
                reason = explain(settings, step=state.step, rate=rate, peak=plan.rate, last_loss=last_loss)
                break
            trained, state.epoch = state.epoch.score(aim.names), Sums.zero(device, len(aim.names))
            best = score is not None and (state.best is None or aim.rank(score) > state.best.rank)
            if score is not None and best:
                state.best, state.stale = Best(epoch + 1, state.step, aim.rank(score)), 0
                if world.leads:
                    write(folder / state.best.file, state.candidate.state_dict(), asdict(state.best))
            else:
                state.stale += 1
            if settings.schedule == schedules.PLATEAU:
                state.plateau.update((score or trained).loss)
            state.why = state.why or _ended(state, settings, plan)
            state.seconds = time.perf_counter() - clock
            record.write(Epoch("epoch", epoch + 1, state.step, rate, state.seconds, trained, score, best))
            if world.leads and (state.why or time.perf_counter() - saved_at >= min(EPOCH_SECONDS, checkpoint_seconds)):
                save_checkpoint(folder, state.checkpoint(constants))
                saved_at = time.perf_counter()

        record.write(End("end", state.why, state.best.epoch if state.best else None, state.seconds), {"reason": reason})
        kept = world.agreed(_kept(folder, state, settings) if world.leads else {})
        network.load_state_dict(kept)
        network.eval()
    return Outcome(
        state=kept,
        best_epoch=state.best.epoch if state.best else None,
        epochs=-(-state.step // plan.steps_per_epoch),
        why=state.why,
        reason=reason,
        seconds=state.seconds,
        history=folder / HISTORY,
        pictures_per_second=state.pictures / state.working if state.working else 0.0,
        precision=plan.precision,
        batch=plan.batch,
        notices=notices,
    )


def _steps_per_line(plan: Plan) -> int:
    return -(-plan.steps_per_epoch // LINES_PER_EPOCH)


def _ended(state: State, settings: Recipe, plan: Plan) -> str | None:
    """Why a run ends after this epoch; None when it goes on."""
    if state.step >= plan.steps:
        return "epochs" if settings.budget is None else "budget"
    if settings.patience is not None and state.best is not None and state.stale >= settings.patience:
        return "patience"
    return None


def _kept(folder: Path, state: State, settings: Recipe) -> dict[str, Tensor]:
    """The weights that a run ends with: the best epoch's, or the last that were finite."""
    if settings.keep == "best" and state.best is not None:
        return read(folder / state.best.file)[0]
    if state.why != NOT_FINITE:
        return {name: tensor.detach().cpu().clone() for name, tensor in state.candidate.state_dict().items()}
    good, _ = load_newest(folder)
    assert good is not None, "a run begins by writing a checkpoint"
    return under("network" if state.average is None else "average.module", good.tensors)


def _misplaced(folder: Path, resume: bool) -> str:
    if resume:
        return f"there is no run to resume in {shown(folder)}, which holds no checkpoint; train without resuming"
    return f"{shown(folder)} holds a run already; resume it, or choose another folder"


def _refuse_another(identity: Mapping[str, Any], facts: Mapping[str, Any], folder: Path) -> None:
    """Raise UsageError when a checkpoint is of another run than the one that is to be resumed."""
    now, then = identity["settings"], facts["settings"]
    for name in now:
        if now[name] != then.get(name):
            raise UsageError(
                f"the run in {shown(folder)} was started with {name} = {shown(then.get(name))}, got "
                f"{shown(now[name])}; resume it with its own settings"
            )
    if identity["data"] != facts["data"]:
        raise UsageError(f"the run in {shown(folder)} was started on other pictures; resume it with its own")
