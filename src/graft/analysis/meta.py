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

from graft.analysis.operations import base_name

_KEEPS_SHAPE: Final = frozenset(
    ("add", "relu", "sigmoid", "silu", "gelu", "tanh", "hardtanh", "hardswish", "hardsigmoid")
)


def run_without_data(func: OpOverload, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """An operation's output on the meta device.

    For the operations below torch would import its compiler to find out, which takes a second: the shape is that
    of their arguments, or known from them.
    """
    name = base_name(func)
    if name == "native_batch_norm":
        return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
    if name == "mean" and len(args) > 1 and args[1]:
        inside, keeps = args[0], len(args) > 2 and args[2]
        dims = {d % inside.ndim for d in args[1]}
        return inside.new_empty([1 if d in dims else n for d, n in enumerate(inside.shape) if keeps or d not in dims])
    if name == "addmm":
        return torch.mm(args[1], args[2])
    tensors = [value for value in args if isinstance(value, Tensor)]
    if name in _KEEPS_SHAPE and tensors and tensors[0].is_meta and len({t.shape for t in tensors}) == 1:
        return args[0] if func._schema.is_mutable else torch.empty_like(args[0])
    return func(*args, **named)


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
