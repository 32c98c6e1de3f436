"""Networks without weights: building and running them on PyTorch's meta device, where tensors have no data.

Only shapes are worked out there, so a network of any size takes no memory, and a forward pass milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from graft.analysis.readers.operations import base_name
from graft.analysis.shapes import output_shape

_POINTWISE: Final = frozenset(
    ("add", "mul", "div", "pow", "relu", "sigmoid", "silu", "gelu", "tanh", "hardtanh", "hardswish", "hardsigmoid")
)


def run_without_data(func: OpOverload, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """An operation's output on the meta device.

    Where the shape is known here, torch is not asked: it would import its symbolic algebra or its compiler to find out.
    """
    name = base_name(func)
    if name == "native_batch_norm":
        return _like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
    if name == "mean" and len(args) > 1 and args[1]:
        inside, keeps = args[0], len(args) > 2 and args[2]
        dims = {d % inside.ndim for d in args[1]}
        return inside.new_empty([1 if d in dims else n for d, n in enumerate(inside.shape) if keeps or d not in dims])
    if name in _POINTWISE and _keeps_shape(args):
        return args[0] if func._schema.is_mutable else _like(args[0])
    shape = output_shape(name, args)
    if shape is None or named:
        return func(*args, **named)
    first = args[0][0] if name == "cat" else args[0]
    output = first.new_empty(shape)
    return (output, first.new_empty(shape, dtype=torch.int64)) if name == "max_pool2d_with_indices" else output


def _keeps_shape(args: tuple[Any, ...]) -> bool:
    """Whether a pointwise operation gives what its first argument is: others are numbers, or broadcast to its shape."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    return (
        bool(tensors)
        and tensors[0] is args[0]
        and args[0].is_meta
        and args[0].is_floating_point()
        and {t.dtype for t in tensors} == {args[0].dtype}
        and all(t.ndim <= args[0].ndim for t in tensors)
        and all(n in (1, m) for t in tensors for n, m in zip(t.shape[::-1], args[0].shape[::-1], strict=False))
    )


def _like(tensor: Tensor) -> Tensor:
    """An empty tensor of the same shape, type and order in memory."""
    return tensor.new_empty(tensor.shape) if tensor.is_contiguous() else torch.empty_like(tensor)


class _Unfilled(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves tensors as they are where an operation would only fill or change them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return args[0] if func._schema.is_mutable and args else func(*args, **(kwargs or {}))


def built_without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` builds, on the meta device: no memory, no random numbers, for `analyze_module` alone.

    A network whose constructor looks at a tensor's values is built with weights after all.
    """
    try:
        with torch.device("meta"), _Unfilled():  # type: ignore[no-untyped-call]
            return build()
    except (NotImplementedError, RuntimeError):  # what torch raises for a value that is not there
        return build()
