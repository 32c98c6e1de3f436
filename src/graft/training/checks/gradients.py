"""Is the gradient that backpropagation gives the slope of the loss? Asked by finite differences, in float64.

For a coordinate w the numeric gradient is (f(w + h) − f(w − h)) / 2h. It is off by two things: the curve between the
two points, about h², and the rounding of f, about ε/h, where ε ≈ 1e-15 in float64. h = 1e-5 keeps both near 1e-10, so
a right gradient of usual size agrees to seven digits or more, and one that is off by a factor, a sign or a missing
term does not reach three. Hence the verdicts, on a tensor's relative error: the largest |analytic − numeric| over its
steepest gradient.

agrees  up to 1e-7: as many digits as such a difference has
close   up to 1e-5: right; usual where rounding piles up through many layers
wrong   above it, by more than rounding explains
flat    both say 0, as far as rounding lets one see: the weights before a batch norm's mean, or a dead layer

ε is measured, because it grows with depth. Where ReLU or max pooling bends within h the difference is not a slope;
smaller steps are tried, down to 1e-7, and where the slopes to the left and right keep apart however small the step,
the coordinate lies on the kink and is skipped and counted.

Sources: Moré and Wild, SIAM J. Sci. Comput. 33(3), 2011, §4 (measuring ε by a table of differences); Baydin et al.,
JMLR 18, 2018, §2.1 (why not h smaller).
"""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from graft.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    Loss = Callable[[Tensor, Tensor], Tensor]
    Leaf = tuple[str, str, Tensor]  # name, kind of its layer, and the tensor

Verdict = Literal["agrees", "close", "wrong", "flat", "on kinks", "no time"]

AGREES: Final = 1e-7
WRONG: Final = 1e-5
STEPS: Final = (1e-5, 1e-6, 1e-7)  # h, times |w| where that is above 1
INPUT: Final = "(input)"

_RESOLVED: Final = 1e-2  # a gradient that differences cannot tell to two digits is called flat
_CAUTION: Final = 8.0  # rounding's part of a difference is taken to be within this many ε/h
_BENT: Final = 0.3  # a curve's bend falls to 0.1 at the next finer step, a kink's stays
_EPSILON: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Coordinate:
    """One number of a tensor: where it stands, and the loss's slope along it both ways."""

    index: tuple[int, ...]
    analytic: float
    numeric: float


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of one parameter tensor, or of the input, held against differences.

    name: the parameter's, or `(input)`. kind: the type of its layer. shape: its shape. compared: coordinates that
    count. finer: those of them that agreed best at a smaller step, a kink being near. kinks: coordinates skipped, lying
    on one. error: relative, ≥ 0; nan if none was compared. resolution: how much of the error rounding may have made.
    worst: the coordinate of the error. reached: whether backpropagation gave this tensor a gradient at all.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    compared: int
    finer: int
    kinks: int
    error: float
    resolution: float
    worst: Coordinate | None
    reached: bool

    @property
    def verdict(self) -> Verdict:
        """As the file's head has it; `flat` where both say 0 as far as rounding lets one see."""
        if not self.compared:
            return "on kinks" if self.kinks else "no time"
        if self.error - self.resolution > WRONG:
            return "wrong"
        if self.resolution > _RESOLVED:
            return "flat"
        return "close" if self.error > AGREES else "agrees"


def gradient_check(
    network: nn.Module,
    loss: Loss,
    x: Tensor,
    target: Tensor,
    *,
    coordinates: int = 10,
    training: bool = False,
    seed: int = 0,
    seconds: float = math.inf,
) -> tuple[LayerGradient, ...]:
    """Hold every trainable tensor's gradient of the mean loss, and the input's, against differences.

    network: any module; it is copied, so neither its weights, statistics, mode nor gradients change. loss: (output,
    target) → any shape, whose mean is taken. x: its input, (N, …). coordinates: how many of a tensor are compared: the
    steepest, and others drawn from `seed`. training: whether the copy runs in train mode, where batch norm takes the
    batch's statistics and dropout drops the same units in every pass. seconds: after this time what was compared
    stands; tensors take turns, so each has had its share.
    Returns an entry for each tensor, in the network's order, the input last.
    Raises UsageError if the loss is not finite to begin with or nothing is trainable.
    """
    subject = _Subject(network, loss, x, target, training=training, seed=seed)
    kinds = {name: type(module).__name__ for name, module in subject.network.named_modules()}
    leaves: list[Leaf] = [
        (name, kinds[name.rpartition(".")[0]], parameter)
        for name, parameter in subject.network.named_parameters()
        if parameter.requires_grad
    ]
    if not leaves:
        raise UsageError(f"{type(network).__name__} has no trainable parameter; unfreeze some of its layers")
    if subject.x.requires_grad:
        leaves.append((INPUT, "", subject.x))
    return _compare(subject, leaves, coordinates, seed, time.monotonic() + seconds)


def passed(gradients: tuple[LayerGradient, ...]) -> bool:
    """Whether no tensor is wrong, and at least one could be told to be right."""
    verdicts = {gradient.verdict for gradient in gradients}
    return "wrong" not in verdicts and bool(verdicts & {"agrees", "close"})


def find_fault(
    network: nn.Module,
    loss: Loss,
    x: Tensor,
    target: Tensor,
    *,
    coordinates: int = 10,
    training: bool = False,
    seed: int = 0,
    seconds: float = math.inf,
) -> str | None:
    """Which layer's backward pass is at fault, once `gradient_check` found gradients wrong.

    Looked for from the loss downwards, in what goes into and comes out of each layer: the fault lies in the first layer
    whose output has the right gradient while its input, or a parameter, has a wrong one. Arguments as there.
    Returns `name (Kind)`, or between which layers it lies, or None where all is right or time ran out.
    """
    subject = _Subject(network, loss, x, target, training=training, seed=seed)
    deadline = time.monotonic() + seconds
    with _Probes(subject) as probes:
        subject.value()
        above = "the loss"
        for layer in reversed(probes.layers):
            suspects = (
                (f"what runs between {layer.title} and {above}", (layer.after,)),
                (layer.title, (layer.before, *layer.parameters)),
            )
            for fault, tensors in suspects:
                found = _compare(subject, [("", "", tensor) for tensor in tensors], coordinates, seed, deadline)
                if any(gradient.verdict == "wrong" for gradient in found):
                    return fault
            above = layer.title
    return None


class _Subject:
    """A float64 copy of a network with its loss as a function without arguments."""

    def __init__(self, network: nn.Module, loss: Loss, x: Tensor, target: Tensor, *, training: bool, seed: int) -> None:
        self.network = copy.deepcopy(network).double().train(training)
        self.network.zero_grad(set_to_none=True)
        for parameter in self.network.parameters():
            parameter.data = parameter.data.contiguous()  # so that it can be seen as one row of numbers
        self.x = x.detach().double().contiguous().clone().requires_grad_() if x.is_floating_point() else x
        self.target = target.double() if target.is_floating_point() else target
        self.loss, self.seed = loss, seed
        self.before_each: Callable[[], None] = _nothing

    def value(self) -> Tensor:
        """The mean loss, a scalar; whatever the network draws at random is drawn alike each time."""
        import torch

        self.before_each()
        with torch.random.fork_rng(devices=[self.x.device] if self.x.is_cuda else []):
            torch.manual_seed(self.seed)
            return self.loss(self.network(self.x), self.target).mean()

    def rounding(self) -> float:
        """ε, the deviation of the loss due to rounding: what is left in the third differences of a tiny walk."""
        import torch

        with torch.no_grad():
            at_rest = float(self.value())
            if not self.x.requires_grad:
                return _EPSILON * abs(at_rest)
            start = self.x.detach().clone()
            walk = []
            for place in range(8):
                self.x.copy_(start * (1 + place * 2.0**-40))
                walk.append(float(self.value()))
            self.x.copy_(start)
        third = np.diff(walk, n=3)  # of variance (1 + 9 + 9 + 1) ε²
        return max(math.sqrt(float((third**2).mean()) / 20), _EPSILON * abs(at_rest))


@dataclass(frozen=True)
class _Compared:
    """A coordinate that counts. unsure: how much of the gap between its two gradients rounding may have made."""

    coordinate: Coordinate
    unsure: float

    @property
    def gap(self) -> float:
        return abs(self.coordinate.analytic - self.coordinate.numeric)

    @property
    def excess(self) -> float:
        """The part of the gap that rounding cannot explain."""
        return max(0.0, self.gap - self.unsure)


@dataclass
class _Tally:
    """One tensor while its coordinates are compared, one at a time. steepest: its largest analytic gradient."""

    name: str
    kind: str
    tensor: Tensor
    gradient: Tensor | None
    steepest: float
    indices: Iterator[int]
    finer: int = 0
    kinks: int = 0
    compared: list[_Compared] = field(default_factory=list)

    def result(self) -> LayerGradient:
        slopes = [self.steepest, *(abs(c.coordinate.numeric) for c in self.compared)]
        scale = max(slopes)
        worst = max(self.compared, key=lambda c: (c.excess, c.gap), default=None)
        error = worst.gap / scale if worst and scale else 0.0
        return LayerGradient(
            name=self.name,
            kind=self.kind,
            shape=tuple(self.tensor.shape),
            compared=len(self.compared),
            finer=self.finer,
            kinks=self.kinks,
            error=error if worst else math.nan,
            resolution=(worst.unsure / scale if scale else math.inf) if worst else math.nan,
            worst=worst.coordinate if worst else None,
            reached=self.gradient is not None,
        )


def _compare(
    subject: _Subject, leaves: Sequence[Leaf], coordinates: int, seed: int, deadline: float
) -> tuple[LayerGradient, ...]:
    """Compare up to `coordinates` numbers of each tensor, the tensors taking turns until the deadline (monotonic)."""
    import torch

    loss = subject.value()
    at_rest = float(loss.detach())
    if not math.isfinite(at_rest):
        raise UsageError(f"a gradient needs a finite loss, got {at_rest}; check the input's range and the weights")
    tensors = [tensor for _, _, tensor in leaves]
    gradients: tuple[Tensor | None, ...] = (None,) * len(tensors)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    rounding = subject.rounding()
    tallies = []
    for place, ((name, kind, tensor), gradient) in enumerate(zip(leaves, gradients, strict=True)):
        steepest = 0.0 if gradient is None or not gradient.numel() else float(gradient.abs().max())
        indices = _drawn(tensor, gradient, 2 * coordinates, (seed, place))
        tallies.append(_Tally(name, kind, tensor, gradient, steepest, indices))
    turns = deque(tallies)
    with torch.no_grad():
        while turns and time.monotonic() < deadline:
            tally = turns.popleft()
            index = next(tally.indices, None)
            if index is not None:
                _compare_one(tally, index, lambda: float(subject.value()), at_rest, rounding)
                if len(tally.compared) < coordinates:
                    turns.append(tally)
    return tuple(tally.result() for tally in tallies)


def _drawn(tensor: Tensor, gradient: Tensor | None, count: int, seed: tuple[int, int]) -> Iterator[int]:
    """Coordinates of a tensor, each once: the one of the steepest gradient, then `count` drawn ones."""
    size = tensor.numel()
    steepest = int(gradient.abs().argmax()) if gradient is not None and size else None
    if steepest is not None:
        yield steepest
    for index in np.random.default_rng(seed).choice(size, min(count, size), replace=False).tolist():
        if index != steepest:
            yield index


def _compare_one(tally: _Tally, index: int, value: Callable[[], float], at_rest: float, rounding: float) -> None:
    """Compare one coordinate, at smaller and smaller steps until it agrees or rounding hides the answer."""
    flat = tally.tensor.detach().view(-1)
    weight, analytic = float(flat[index]), 0.0 if tally.gradient is None else float(tally.gradient.reshape(-1)[index])
    where = tuple(int(i) for i in np.unravel_index(index, tuple(tally.tensor.shape)))
    tries: list[_Compared] = []
    bends: list[float] = []  # how far the slopes to the right and to the left are apart
    for step in STEPS:
        h = step * max(1.0, abs(weight))
        above, below = weight + h, weight - h  # as rounded, so that the span between them is exact
        flat[index] = above
        up = value()
        flat[index] = below
        down = value()
        flat[index] = weight
        numeric = (up - down) / (above - below)
        tries.append(_Compared(Coordinate(where, analytic, numeric), _CAUTION * rounding / h))
        bends.append(abs((up - at_rest) / (above - weight) - (at_rest - down) / (weight - below)))
        scale = max(tally.steepest, abs(numeric))
        if tries[-1].excess <= AGREES * scale:
            break
        if len(tries) > 1 and 10 * tries[-1].unsure > WRONG * scale:
            break  # a finer step would show rounding, not the slope
    best = min(tries, key=lambda compared: max(compared.gap, compared.unsure))
    last = tries[-1]
    if last.excess > AGREES * scale and bends[-1] > max(
        2 * last.unsure, last.gap / 10, min(last.gap, _BENT * bends[-2])
    ):
        tally.kinks += 1  # backpropagation's slope lies between the two sides', or they stay apart however small h is
        return
    tally.finer += best is not tries[0]
    tally.compared.append(best)


@dataclass(frozen=True)
class _Layer:
    """One call of a layer: zeros added before and after it, whose gradients are those of its input and output."""

    title: str
    parameters: tuple[nn.Parameter, ...]
    before: Tensor
    after: Tensor


class _Probes:
    """Within a `with`: zeros are added to what goes into and comes out of every layer of a subject's network."""

    def __init__(self, subject: _Subject) -> None:
        self.subject = subject
        self.layers: list[_Layer] = []
        self._before: list[Tensor] = []
        self._calls = 0
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> _Probes:
        for name, module in self.subject.network.named_modules():
            if not any(True for _ in module.children()):
                self._hooks.append(module.register_forward_pre_hook(self._enter_layer))
                self._hooks.append(module.register_forward_hook(partial(self._leave_layer, name)))
        self.subject.before_each = self._rewind
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self.subject.before_each = _nothing

    def _rewind(self) -> None:
        self._calls = 0

    def _enter_layer(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._calls == len(self._before):
            self._before.append(_zeros_for(args[0]))
        return args[0] + self._before[self._calls], *args[1:]

    def _leave_layer(self, name: str, module: nn.Module, _args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if self._calls == len(self.layers):
            own = tuple(parameter for parameter in module.parameters() if parameter.requires_grad)
            title = f"{name} ({type(module).__name__})"
            self.layers.append(_Layer(title, own, self._before[self._calls], _zeros_for(out)))
        self._calls += 1
        return out + self.layers[self._calls - 1].after


def _zeros_for(maps: Tensor) -> Tensor:
    import torch

    return torch.zeros_like(maps, memory_format=torch.contiguous_format, requires_grad=True)


def _nothing() -> None:
    """What happens before each pass of a network that is not probed."""
