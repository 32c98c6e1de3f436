"""Where the picture's rows and columns are in a tensor, and how each operation of PyTorch moves receptive fields.

A map (N, C, H, W) keeps rows in dimension 2 and columns in 3; a permutation moves them; flattened into tokens they
share one dimension. Where an operation cannot be followed the result is None: the table says nothing rather than guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload

from graft.analysis.readers.operations import Window, base_name, window_of
from graft.analysis.receptive_field import Field, whole_picture

GONE: Final = -1  # an axis with a single position and no dimension of its own


@dataclass(frozen=True)
class Placed:
    """The fields of a tensor and where its positions are.

    axes: the dimensions of rows and columns, equal where both share one, GONE where there is one position only.
    grid: how many rows and columns there are. picture: the input's height and width, pixels.
    """

    field: Field
    axes: tuple[int, int]
    grid: tuple[int, int]
    picture: tuple[int, int]

    def collapsed(self) -> Placed:
        """After something that reads all positions at once."""
        return replace(self, field=self.field.all_of(self.grid), axes=(GONE, GONE), grid=(1, 1))


_Rule = Callable[[Sequence[Any], Placed, Tensor], Placed | None]


def picture(shape: Sequence[int]) -> Placed | None:
    """The network's own input, (N, C, H, W) or (N, C) without positions."""
    return Placed(Field(), (2, 3), (shape[2], shape[3]), (shape[2], shape[3])) if len(shape) == 4 else None


def moved(
    operation: OpOverload, arguments: Sequence[Any], placed: Sequence[Placed | None], output: Tensor
) -> Placed | None:
    """The fields of an operation's output.

    placed: for each tensor among `arguments` (lists opened) that depends on the picture, its fields, in order.
    """
    if not placed or any(p is None for p in placed):
        return None
    known = [p for p in placed if p is not None]
    name, first = base_name(operation), known[0]
    window = window_of(operation, arguments, output)
    if window is not None:
        return _through(window, arguments[0], first, output)
    if name in ("addmm", "mm", "bmm", "baddbmm"):
        return _product(known, output)
    if name in _AXIS_RULES:
        return _AXIS_RULES[name](arguments, first, output)
    if name in _SAME or torch.Tag.pointwise in operation.tags:
        return _met(name, known, output)
    return None


def _through(window: Window, inside: Tensor, placed: Placed, output: Tensor) -> Placed | None:
    if placed.axes == (GONE, GONE) and math.prod(inside.shape[2:]) == 1 and window.kernel == (1, 1):
        return placed
    if placed.axes != (2, 3):
        return None
    grid = (output.shape[2], output.shape[3]) if output.ndim == 4 else (1, 1)
    axes = (2, 3) if output.ndim == 4 else (GONE, GONE)
    if window.transposed:
        stride = (int(window.stride[0]), int(window.stride[1]))
        field = placed.field.transposed(window.kernel, stride, window.padding, window.dilation)
    else:
        field = placed.field.window(window.kernel, window.stride, window.padding, window.dilation)
    return replace(placed, field=field, axes=axes, grid=grid)


def _product(known: list[Placed], output: Tensor) -> Placed | None:
    """A linear layer keeps positions unless they are what it sums over; a product of two maps mixes all positions."""
    first = known[0]
    if len(known) > 1:
        return Placed(whole_picture(first.picture), (GONE, GONE), (1, 1), first.picture)
    return first.collapsed() if output.ndim - 1 in first.axes else first


def _met(name: str, known: list[Placed], output: Tensor) -> Placed | None:
    """Branches that meet in a sum, product or concatenation, broadcast or not."""
    with_positions = [p for p in known if p.grid != (1, 1) and p.axes != (GONE, GONE)]
    base = (with_positions or known)[0]
    if any(p.axes != base.axes or p.grid != base.grid for p in with_positions):
        return None
    field = base.field
    for other in known:
        if other is base:
            continue
        single = other not in with_positions and bool(with_positions)
        field = replace(field, gated=True) if single and name == "mul" else field.union(other.field)
    axes = base.axes if all(axis < output.ndim for axis in base.axes) else None
    return replace(base, field=field) if axes is not None else None


def _normed(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """Layer norm over trailing dimensions: statistics over positions scale them all."""
    first_normed = output.ndim - len(arguments[1])
    over_positions = any(axis >= first_normed for axis in placed.axes)
    return replace(placed, field=replace(placed.field, gated=placed.field.gated or over_positions))


def _group_normed(_: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    return replace(placed, field=replace(placed.field, gated=True)) if output.ndim == 4 else None


def _softmaxed(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    over_positions = arguments[1] % output.ndim in placed.axes
    return replace(placed, field=replace(placed.field, gated=placed.field.gated or over_positions))


def _permuted(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    order = [d % output.ndim for d in arguments[1]]
    return replace(placed, axes=_renamed(placed.axes, {old: new for new, old in enumerate(order)}))


def _transposed(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    a, b = (d % output.ndim for d in (arguments[1:3] or (0, 1)))
    return replace(placed, axes=_renamed(placed.axes, {a: b, b: a}))


def _renamed(axes: tuple[int, int], names: dict[int, int]) -> tuple[int, int]:
    return names.get(axes[0], axes[0]), names.get(axes[1], axes[1])


def _reshaped(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    axes = reshaped_axes(tuple(arguments[0].shape), tuple(output.shape), placed.axes, placed.grid)
    return None if axes is None else replace(placed, axes=axes)


def reshaped_axes(
    before: Sequence[int], after: Sequence[int], axes: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int] | None:
    """Where rows and columns are after a reshape, or None where they are torn apart.

    Dimensions are matched in groups of one product: (1, 64, 7, 7) → (1, 8, 8, 7, 7) moves rows from 2 to 3, and
    (1, 64, 49) gives both the dimension 2. Flattened together with channels they share the dimension too.
    """
    if grid == (1, 1):
        return GONE, GONE
    found: list[int] = []
    groups = _matched(before, after)
    if groups is None:
        return None
    for side, axis in enumerate(axes):
        if grid[side] == 1 and before[axis] == 1:
            found.append(GONE)
            continue
        old, new = next(group for group in groups if axis in group[0])
        if len(new) == 1:
            found.append(new[0])
        elif len(old) == 1 and axes[0] == axes[1] and tuple(after[d] for d in new) == grid:
            found.append(new[side])
        elif len(old) == len(new) and [before[d] for d in old] == [after[d] for d in new]:
            found.append(new[old.index(axis)])
        else:
            return None
    return found[0], found[1]


def _matched(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Dimensions above 1, grouped so that each group has the same product on both sides."""
    old = [d for d, size in enumerate(before) if size != 1]
    new = [d for d, size in enumerate(after) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while old and new:
        left, right = [old.pop(0)], [new.pop(0)]
        while (a := math.prod(before[d] for d in left)) != (b := math.prod(after[d] for d in right)):
            source, group = (old, left) if a < b else (new, right)
            if not source:
                return None
            group.append(source.pop(0))
        groups.append((left, right))
    return None if old or new else groups


def _picked(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """`select` takes one index of a dimension and drops it."""
    dim = arguments[1] % (output.ndim + 1)
    if dim in placed.axes:
        return None
    return replace(placed, axes=_renamed(placed.axes, {d: d - 1 for d in range(dim + 1, output.ndim + 1)}))


def _sliced(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """`slice` of channels changes nothing; of rows or columns it moves the first centre and widens the jump."""
    defaults: list[Any] = [0, None, None, 1]
    given = [*arguments[1:], *defaults[len(arguments) - 1 :]]
    dim, start, step = given[0] % output.ndim, given[1] or 0, given[3]
    size = arguments[0].shape[dim]
    if dim not in placed.axes or output.shape[dim] == size:
        return placed
    if placed.axes[0] == placed.axes[1]:
        return None
    first = max(0, start + size) if start < 0 else start
    rows = dim == placed.axes[0]
    stride, padding = ((step, 1), (-first, 0)) if rows else ((1, step), (0, -first))
    grid = (output.shape[dim], placed.grid[1]) if rows else (placed.grid[0], output.shape[dim])
    return replace(placed, field=placed.field.window((1, 1), stride, padding), grid=grid)


def _expanded(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """New dimensions come in front."""
    added = output.ndim - arguments[0].ndim
    return replace(placed, axes=_renamed(placed.axes, {d: d + added for d in range(arguments[0].ndim)}))


def _restrided(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """Another layout of the same elements, or something that cannot be followed."""
    return placed if arguments[0].shape == output.shape else None


def _split(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    dim = (arguments[2] if len(arguments) > 2 else 0) % output.ndim
    return None if dim in placed.axes else placed


def _unbound(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    return _picked([arguments[0], arguments[1] if len(arguments) > 1 else 0], placed, output)


def _pooled_in_depth(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """`avg_pool3d` over channels alone, as local response normalisation does it."""
    kernel = dict(zip(range(output.ndim - 3, output.ndim), arguments[1], strict=True))
    return placed if all(kernel.get(axis, 1) == 1 for axis in placed.axes) else None


def _padded(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """`constant_pad_nd`: pads are listed from the last dimension, before and after."""
    pads = arguments[1]
    before = {output.ndim - 1 - i: pads[2 * i] for i in range(len(pads) // 2)}
    if placed.axes[0] == placed.axes[1] or GONE in placed.axes:
        return placed if not any(before.get(axis, 0) for axis in placed.axes) else None
    padding = before.get(placed.axes[0], 0), before.get(placed.axes[1], 0)
    grid = output.shape[placed.axes[0]], output.shape[placed.axes[1]]
    return replace(placed, field=placed.field.window((1, 1), padding=padding), grid=grid)


def _resized_nearest(_: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    return _resized(placed, output, 1)


def _resized_bilinear(_: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    return _resized(placed, output, 2)


def _resized(placed: Placed, output: Tensor, taps: int) -> Placed | None:
    if placed.axes != (2, 3):
        return None
    grid = (output.shape[2], output.shape[3])
    ratio = (Fraction(grid[0], placed.grid[0]), Fraction(grid[1], placed.grid[1]))
    return replace(placed, field=placed.field.enlarged(ratio, 1 if placed.grid == (1, 1) else taps), grid=grid)


def _averaged(arguments: Sequence[Any], placed: Placed, output: Tensor) -> Placed | None:
    """A mean or maximum over dimensions, positions or not."""
    inside = arguments[0]
    if len(arguments) < 2 or arguments[1] is None:
        return placed.collapsed()
    listed = arguments[1] if isinstance(arguments[1], list | tuple) else [arguments[1]]
    dims = {d % inside.ndim for d in listed}
    reads = [axis in dims for axis in placed.axes]
    if all(reads):
        return placed.collapsed()
    if any(reads):
        return None
    if output.ndim == inside.ndim:
        return placed
    left = [d for d in range(inside.ndim) if d not in dims]
    return replace(placed, axes=_renamed(placed.axes, {old: new for new, old in enumerate(left)}))


_SAME_NAMES: Final = """
    native_batch_norm _native_batch_norm_legit_no_training clone _to_copy contiguous alias detach lift_fresh cat copy
    _prelu_kernel hardswish native_dropout bernoulli
"""
_SAME: Final = frozenset(_SAME_NAMES.split())
_AXIS_RULES: Final[dict[str, _Rule]] = {
    "native_layer_norm": _normed,
    "native_group_norm": _group_normed,
    "_softmax": _softmaxed,
    "_safe_softmax": _softmaxed,
    "_log_softmax": _softmaxed,
    "permute": _permuted,
    "transpose": _transposed,
    "t": _transposed,
    "view": _reshaped,
    "_unsafe_view": _reshaped,
    "_reshape_alias": _reshaped,
    "reshape": _reshaped,
    "expand": _expanded,
    "squeeze": _reshaped,
    "unsqueeze": _reshaped,
    "as_strided": _restrided,
    "select": _picked,
    "slice": _sliced,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbound,
    "constant_pad_nd": _padded,
    "avg_pool3d": _pooled_in_depth,
    "upsample_nearest2d": _resized_nearest,
    "upsample_bilinear2d": _resized_bilinear,
    "mean": _averaged,
    "sum": _averaged,
    "amax": _averaged,
    "amin": _averaged,
}
