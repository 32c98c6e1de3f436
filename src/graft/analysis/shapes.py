"""The output shapes of the operations that most networks are made of.

PyTorch knows them too, but imports its symbolic algebra to check its arguments, which takes a third of a second. What
is unusual or does not fit is None here and left to PyTorch, whose error says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import Tensor

from graft.analysis.table import Shape


def output_shape(name: str, arguments: Sequence[Any]) -> Shape | None:
    """The shape of an operation's (first) output, batch included; None where it is not worked out here.

    name, arguments: as PyTorch's dispatcher has them, without namespace and overload.
    """
    rule = _RULES.get(name)
    return rule(*arguments) if rule else None


def windows(inside: int, kernel: int, stride: int, padding: int, dilation: int = 1, *, ceil: bool = False) -> int:
    """How many positions a window has along one side, at most 0 if none. ceil: a last one may hang over the end.

    That one must start within the picture or the padding before it, as PyTorch (unlike the formula) demands.
    """
    room = inside + 2 * padding - dilation * (kernel - 1) - 1
    positions = (-(-room // stride) if ceil else room // stride) + 1
    return positions - 1 if ceil and (positions - 1) * stride >= inside + padding else positions


def _convolution(
    x: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
) -> Shape | None:
    if transposed or x.ndim != weight.ndim or x.shape[1] != weight.shape[1] * groups:
        return None
    sides = _positions(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return None if sides is None else (x.shape[0], weight.shape[0], *sides)


def _max_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil: bool = False,
) -> Shape | None:
    inside = x.shape[2:]
    if any(2 * p > k for p, k in zip(_each(padding, len(inside)), _each(kernel, len(inside)), strict=True)):
        return None  # a window would lie in the padding alone
    sides = _positions(inside, kernel, stride or kernel, padding, dilation, ceil=ceil)
    return None if sides is None else (*x.shape[:2], *sides)


def _avg_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    ceil: bool = False,
    *_how_to_count: object,
) -> Shape | None:
    return _max_pool(x, kernel, stride, padding, 1, ceil)


def _adaptive_avg_pool(x: Tensor, sides: Sequence[int]) -> Shape | None:
    return (*x.shape[:2], *sides) if x.ndim == 4 else None


def _product(a: Tensor, b: Tensor) -> Shape | None:
    fits = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]
    return (a.shape[0], b.shape[1]) if fits else None


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Shape | None:
    first, axis = tensors[0], dim % max(1, tensors[0].ndim)
    rests = {(*t.shape[:axis], *t.shape[axis + 1 :]) for t in tensors}
    if len(rests) != 1 or {t.ndim for t in tensors} != {first.ndim} or first.ndim == 0:
        return None
    return (*first.shape[:axis], sum(t.shape[axis] for t in tensors), *first.shape[axis + 1 :])


_RULES: Final[dict[str, Callable[..., Shape | None]]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "avg_pool3d": _avg_pool,
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
    "mm": _product,
    "addmm": lambda _bias, a, b: _product(a, b),
    "cat": _joined,
}


def _positions(
    inside: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int] | int,
    padding: Sequence[int] | int,
    dilation: Sequence[int] | int,
    *,
    ceil: bool = False,
) -> Shape | None:
    """`windows` of every side, or None unless there is one or more in each."""
    count = len(inside)
    geometry = (inside, *(_each(value, count) for value in (kernel, stride, padding, dilation)))
    sides = tuple(windows(*side, ceil=ceil) for side in zip(*geometry, strict=True))
    return sides if count and min(sides) > 0 else None


def _each(value: Sequence[int] | int, count: int) -> Sequence[int]:
    """1 or [1] → one for each of `count` sides."""
    values = (value,) if isinstance(value, int) else value
    return values if len(values) == count else (values[0],) * count
