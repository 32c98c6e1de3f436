"""The gate before training: a handful of checks, in seconds, that a set-up can learn and that nothing leaks into it.

Each check is one that the lectures ask for before the first epoch: the initial loss, a small sample learnt by heart,
the gradient, shuffled labels, blank pictures. A failure names its likely causes, those that have evidence first.
A share of a few hundred pictures is never exact, so "better than chance" means that its whole 95 % interval is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from graft.errors import UsageError
from graft.evaluate.intervals import Interval, proportion
from graft.training.checks import gradients
from graft.training.checks.gate_samples import (
    FEWEST,
    dealt,
    drawn,
    edges,
    equal_pictures_of_two_classes,
    majority,
    painted,
    spread,
    two_samples,
)
from graft.training.loop.pictures import Pictures
from graft.training.loop.source import Batching
from graft.training.recipe.normalize import Normalization

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    Loss = Callable[[Tensor, Tensor], Tensor]
    MakeOptimizer = Callable[[nn.Module, float], Optimizer]  # network, rate → an optimiser without regularisation

Status = Literal["passed", "warned", "failed", "skipped"]

BY_HEART: Final = 20  # pictures that are overfitted
OVERFIT_STEPS: Final = 1000
BRIEF_EPOCHS: Final = 20

_STILL: Final = 0.99  # a loss above this share of the first one has hardly moved
_ONE_MISTAKE: Final = 0.5  # a wrong answer costs ln 2 or more in cross-entropy, 1 or more in the SVM's loss
_ENOUGH_STEPS: Final = 50  # before a time that is up says anything of a network that has not learnt
_SHARES: Final = {"overfit": 0.3, "gradient": 0.2, "brief": 0.125}  # of the gate's time, which a last step may pass


@dataclass(frozen=True)
class Check:
    """One check. found: what was seen, in a sentence. causes: why it may have gone wrong, the likeliest first."""

    name: str
    status: Status
    found: str
    causes: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.status:8}{self.name}: {self.found}"]
        return "\n".join(lines + [f"          {place}. {cause}" for place, cause in enumerate(self.causes, start=1)])


@dataclass(frozen=True)
class GateReport:
    """All checks, in the order they ran."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether training may start: nothing failed. What was warned of, or skipped, does not stop it."""
        return all(check.status != "failed" for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))

    def as_json(self) -> dict[str, Any]:
        """What `json.dumps` takes: `passed`, and the checks with their fields."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True)
class _Setup:
    """What is checked."""

    make_network: Callable[[], nn.Module]
    loss: Loss
    make_optimizer: MakeOptimizer
    rate: float
    num_classes: int
    normalization: Normalization
    batch: int
    seed: int
    seconds: float

    def network(self) -> nn.Module:
        """A fresh network in which batch norm takes the batch's statistics and nothing is dropped."""
        import torch
        from torch.nn.modules.batchnorm import _BatchNorm

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self.make_network().eval()
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        return network

    def tensors(self, pictures: Pictures) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W) float32, normalised, and labels (N,) int64."""
        batching = Batching(self.normalization, self.num_classes, self.seed, channels_last=False)
        batch = pictures.batch(np.arange(len(pictures)), batching=batching, epoch=0)
        return batch.x, batch.target


def gate(
    make_network: Callable[[], nn.Module],
    loss: Loss,
    train: Pictures,
    *,
    num_classes: int,
    normalization: Normalization,
    make_optimizer: MakeOptimizer,
    rate: float,
    val: Pictures | None = None,
    batch: int = 32,
    seed: int = 0,
    seconds: float = 10.0,
) -> GateReport:
    """Check a set-up before it is trained.

    make_network: gives the network with fresh weights, drawn from torch's generator. loss: (logits, labels) → (N,).
    make_optimizer: (network, rate) → an optimiser, without weight decay. rate: the base rate of the run. train, val:
    pictures of the network's size; without val a part of train is held out. batch: of the brief trainings. seconds:
    about how long it may take; what does not fit is said.
    Raises UsageError for no pictures or labels that are not among the classes.
    """
    if not len(train) or train.labels.max() >= num_classes:
        got = f"a label {train.labels.max()}" if len(train) else "none"
        raise UsageError(f"the gate needs pictures with labels 0 to {num_classes - 1}, got {got}; number the classes")
    setup = _Setup(make_network, loss, make_optimizer, rate, num_classes, normalization, batch, seed, seconds)
    by_heart = train.take(spread(train.labels, BY_HEART, seed))
    checks = [_timed(_initial_loss, setup, train.take(drawn(len(train), 64, seed)))]
    if checks[0].status == "failed" and "scores for" in checks[0].found:
        return GateReport(tuple(checks))  # no other check can run
    checks += [_timed(_overfit, setup, by_heart), _timed(_gradient, setup, by_heart)]
    learning, holding = two_samples(train, val, seed)
    if min(len(learning), len(holding)) < FEWEST or len(np.unique(holding.labels)) < 2:
        few = f"needs {FEWEST} pictures of two classes to train on and as many to validate on"
        checks += [Check(name, "skipped", few) for name in ("true labels", "shuffled labels", "blank pictures")]
        return GateReport(tuple(checks))
    started = time.perf_counter()
    whole = _brief(setup, learning, holding)
    checks.append(replace(_true_labels(whole, holding), seconds=time.perf_counter() - started))
    checks.append(_timed(_shuffled, setup, learning, holding))
    checks.append(_timed(_blank, setup, learning, holding, whole))
    return GateReport(tuple(checks))


def _timed(check: Callable[..., Check], *arguments: object) -> Check:
    started = time.perf_counter()
    done = check(*arguments)
    return replace(done, seconds=time.perf_counter() - started)


def _initial_loss(setup: _Setup, pictures: Pictures) -> Check:
    """The loss before any step against that of equal scores: ln C for cross-entropy, C − 1 for the SVM's."""
    import torch

    x, labels = setup.tensors(pictures)
    with torch.no_grad():
        scores = setup.network()(x)
        name, classes = "initial loss", setup.num_classes
        if scores.shape != (len(x), classes):
            found = f"the network gives {scores.shape[-1]} scores for {classes} classes"
            return Check(name, "failed", found, (f"wrong number of outputs: build the network for {classes} classes",))
        expected = float(setup.loss(torch.zeros_like(scores), labels).mean())
        loss = float(setup.loss(scores, labels).mean())
    found = f"{loss:.4g}, where equal scores for {classes} classes give {expected:.4g}"
    if 0.5 * expected <= loss <= 1.5 * expected:
        return Check(name, "passed", found)
    centre, spread = float(x.mean()), float(x.std())
    causes = {
        f"weights too large: the scores deviate by {float(scores.std()):.3g}, about 1 or less is usual": True,
        f"inputs not normalised: mean {centre:.3g}, deviation {spread:.3g}, where 0 and 1 are usual": False,
        "a loss or scores of another kind than the network was built for, such as probabilities given as scores": False,
    }
    if loss < expected:
        return Check(name, "failed", found, (
            "the network has seen these pictures: its weights are not fresh",
            "the target leaks into the network's input", "a loss that is scaled or averaged twice",
        ))  # fmt: skip
    skewed = not (abs(centre) < 1 and 0.2 < spread < 5)
    ordered = sorted(causes, key=lambda cause: causes[cause] if skewed else not causes[cause])
    return Check(name, "failed", found, tuple(ordered))


@dataclass(frozen=True)
class _Fit:
    """How learning a small sample by heart went. accuracy: 0–1, of the last step. moved: whether any weight did."""

    first: float
    last: float
    accuracy: float
    steps: int
    moved: bool


def _by_heart(setup: _Setup, x: Tensor, labels: Tensor, rate: float) -> _Fit:
    """Train on one batch again and again, until it is known or the steps or the time are used up."""
    import torch

    deadline = time.monotonic() + _SHARES["overfit"] * setup.seconds
    network = setup.network()
    optimizer = setup.make_optimizer(network, rate)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    first = last = accuracy = math.nan
    step, moved = 0, False
    for step in range(1, OVERFIT_STEPS + 1):
        scores = network(x)
        accuracy = float((scores.argmax(dim=1) == labels).double().mean())
        loss = setup.loss(scores, labels).mean()
        last = float(loss.detach())
        first = last if step == 1 else first
        learnt = accuracy == 1.0 or last * len(x) < _ONE_MISTAKE
        if not math.isfinite(last) or not loss.requires_grad or learnt or (step > 1 and time.monotonic() > deadline):
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step == 1:
            moved = any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
            if not moved:
                break
    return _Fit(first, last, accuracy, step, moved)


def _overfit(setup: _Setup, pictures: Pictures) -> Check:
    """A network that cannot learn twenty pictures by heart will not learn twenty thousand."""
    x, labels = setup.tensors(pictures)
    fit = _by_heart(setup, x, labels, setup.rate)
    found = (
        f"{100 * fit.accuracy:.0f} % of {len(pictures)} pictures learnt by heart in {fit.steps} steps at rate "
        f"{setup.rate:g}, loss {fit.first:.3g} to {fit.last:.3g}"
    )
    name = "small sample"
    if fit.accuracy == 1.0:
        return Check(name, "passed", found)
    twice = equal_pictures_of_two_classes(pictures)
    causes: list[str] = []
    if not fit.moved:
        causes += ["the rate is 0, or no gradient reaches any weight: nothing moved"]
    elif not math.isfinite(fit.last):
        causes += ["the rate is too high: the loss is no longer finite", "inputs not normalised", "weights too large"]
    elif fit.last * len(pictures) < _ONE_MISTAKE:
        causes += ["labels out of step: the loss allows no mistake, yet the answers are not the labels"]
    elif twice:
        causes += [f"{twice} equal pictures in two classes: nobody can tell them apart"]
    if (fit.moved and not causes) or not math.isfinite(fit.last):
        early = fit.steps < OVERFIT_STEPS and (fit.last < fit.first or fit.steps < _ENOUGH_STEPS)
        if early and math.isfinite(fit.last):
            return Check(name, "warned", f"{found}; the time was up before more could be said")
        if _STILL * fit.first < fit.last <= fit.first:
            causes = [f"the rate is too low: in {fit.steps} steps the loss has hardly moved"]
        for factor, word in ((0.1, "high"), (10.0, "low")):
            if _by_heart(setup, x, labels, factor * setup.rate).accuracy == 1.0:
                causes = [f"the rate is too {word}: at {factor * setup.rate:g} all are learnt", *causes]
                break
    causes += [
        "a wrong gradient: see the gradient check",
        "weights so small or large that layers are dead or saturated",
        "a network too small for the task",
    ]
    return Check(name, "failed", found, tuple(dict.fromkeys(causes)))


def _gradient(setup: _Setup, pictures: Pictures) -> Check:
    """The numeric against the analytic gradient, on a few coordinates of each tensor, for four of the pictures."""
    name, allowed = "gradient", _SHARES["gradient"] * setup.seconds
    x, labels = setup.tensors(pictures.take(np.arange(min(4, len(pictures)))))
    network = setup.network()
    started = time.perf_counter()
    try:
        found = gradients.gradient_check(
            network, setup.loss, x, labels, coordinates=3, seed=setup.seed, seconds=allowed / 2
        )
    except UsageError as error:
        return Check(name, "failed", str(error), ("weights too large", "inputs not normalised", "nothing trainable"))
    wrong = [gradient for gradient in found if gradient.verdict == "wrong"]
    compared = sum(gradient.compared for gradient in found)
    if not wrong:
        late = sum(gradient.verdict == "no time" for gradient in found)
        note = f"; no time for {late} tensors" if late else ""
        if not gradients.passed(found):
            return Check(name, "warned", f"no slope large enough to compare in {len(found)} tensors{note}")
        most = max(g.error for g in found if g.verdict in ("agrees", "close"))
        return Check(name, "passed", f"{compared} coordinates of {len(found)} tensors, error {most:.1g} at most{note}")
    unreached = [gradient.name for gradient in wrong if not gradient.reached]
    left = max(0.5, allowed - (time.perf_counter() - started))
    fault = gradients.find_fault(network, setup.loss, x, labels, seed=setup.seed, seconds=left)
    causes = []
    if unreached:
        causes.append(f"no gradient reaches {unreached[0]}, though the loss depends on it: detach, .data or no_grad")
    causes.append(
        f"the backward pass of {fault}" if fault else "a backward pass written by hand, in the network or loss"
    )
    if unreached and fault:
        causes[0] += f", in {fault}"
        del causes[1]
    causes.append("a result changed in place after it was used")
    names = ", ".join(gradient.name for gradient in wrong[:3]) + (", …" if len(wrong) > 3 else "")
    return Check(name, "failed", f"wrong in {len(wrong)} of {len(found)} tensors: {names}", tuple(causes))


def _brief(setup: _Setup, learning: Pictures, holding: Pictures) -> Interval:
    """Train a fresh network for some epochs on the one sample: its accuracy on the other, with its interval."""
    import torch

    deadline = time.monotonic() + _SHARES["brief"] * setup.seconds
    x, labels = setup.tensors(learning)
    network = setup.network()
    optimizer = setup.make_optimizer(network, setup.rate)
    for epoch in range(BRIEF_EPOCHS):
        order = torch.from_numpy(np.random.default_rng((setup.seed, epoch)).permutation(len(x)))
        for part in torch.tensor_split(order, -(-len(order) // setup.batch)):
            if time.monotonic() > deadline:
                break
            loss = setup.loss(network(x[part]), labels[part]).mean()
            if loss.requires_grad and math.isfinite(float(loss.detach())):
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    x, labels = setup.tensors(holding)
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(dim=1) for part in torch.tensor_split(x, -(-len(x) // 64))])
    right = int((answers == labels).sum())
    return proportion(right, len(x))


def _true_labels(whole: Interval, holding: Pictures) -> Check:
    """What the two checks after it are held against. A hard task learns nothing so soon, so this one only warns."""
    found = f"a brief training reaches {whole.percent()}, the majority class {100 * majority(holding):.1f} %"
    if whole.low > majority(holding):
        return Check("true labels", "passed", found)
    return Check("true labels", "warned", found, (
        "too little time for this task", "labels out of step with the pictures", "a rate that is too low or too high",
    ))  # fmt: skip


def _shuffled(setup: _Setup, learning: Pictures, holding: Pictures) -> Check:
    """Labels dealt out anew, equal pictures getting equal ones: then nothing can be known about unseen pictures.

    Beating chance is confirmed with a second deal, so that of healthy set-ups one in a thousand is stopped.
    """
    chances, scores = [], []
    for deal in range(2):
        learnt, held = dealt(learning, holding, setup.seed + deal)
        scores.append(_brief(setup, learnt, held))
        chances.append(majority(held))
        if scores[-1].low <= chances[-1]:
            found = f"{scores[-1].percent()} on validation, chance {100 * chances[-1]:.1f} %"
            return Check("shuffled labels", "passed", found)
    found = f"{scores[0].percent()} and again {scores[1].percent()} on validation, chance {100 * chances[0]:.1f} %"
    return Check("shuffled labels", "failed", found, (
        "validation pictures are also among the training pictures: `graft audit` finds them",
        "the label is part of what the network sees", "validation is measured on the training pictures",
    ))  # fmt: skip


def _blank(setup: _Setup, learning: Pictures, holding: Pictures, whole: Interval) -> Check:
    """Pictures painted over, each quarter in the colour of its corner pixel: the subject is gone, a mark is not.

    Wholly blank pictures are all alike, and nothing could beat the majority; a stamp, a frame, bars of padding or a
    label written into a pixel lie at the corners. Backgrounds too, honestly: it fails where the corners tell as much
    as the whole picture, and warns where they tell less.
    """
    at = edges(learning)
    corners = _brief(setup, painted(learning, at), painted(holding, at))
    constant = majority(holding)
    found = f"{corners.percent()} with all but the corners painted over, the majority class {100 * constant:.1f} %"
    if corners.low <= constant:
        return Check("blank pictures", "passed", found)
    causes = (
        "the label shows at the edge: a stamp, a frame, bars of padding, or a pixel that encodes it",
        "backgrounds differ between the classes",
        "the label is part of what the network sees besides the picture",
    )
    if corners.high >= whole.value:
        return Check("blank pictures", "failed", f"{found}; whole pictures reach {whole.percent()}", causes)
    return Check("blank pictures", "warned", f"{found}; whole pictures reach {whole.percent()}", causes)
