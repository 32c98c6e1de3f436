"""What one tensor operation of PyTorch is and costs: its kind, its multiply-adds and its window.

Operations are named as PyTorch's dispatcher names them (`convolution`, `addmm`), after `F.conv2d` or `F.linear` have
been taken apart. Shapes are those of the tensors, batch included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload

from graft.analysis.receptive_field import adaptive_window
from graft.analysis.table import Pair

KINDS: Final = {
    "convolution": "conv",
    "addmm": "linear",
    "mm": "linear",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "max_pool2d_with_indices": "max pool",
    "avg_pool2d": "avg pool",
    "_adaptive_avg_pool2d": "avg pool",
    "adaptive_max_pool2d": "max pool",
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit_no_training": "batch norm",
    "native_layer_norm": "layer norm",
    "native_group_norm": "group norm",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_log_softmax": "softmax",
    "constant_pad_nd": "pad",
    "upsample_nearest2d": "upsample",
    "upsample_bilinear2d": "upsample",
    "upsample_bicubic2d": "upsample",
    "cat": "concat",
    "mul": "multiply",
    "silu": "silu",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
    "hardtanh": "relu6",
    "leaky_relu": "leaky relu",
    "_prelu_kernel": "prelu",
}

# Without multiply-adds of the counted sort, although neither pointwise nor a view by PyTorch's own tags.
_FREE_NAMES: Final = """
    native_batch_norm _native_batch_norm_legit_no_training native_layer_norm native_group_norm norm linalg_vector_norm
    _softmax _safe_softmax _log_softmax cumsum glu hardswish native_dropout bernoulli
    max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d
    avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
    mean sum amax amin max min argmax var var_mean std any all topk sort nonzero
    cat stack constant_pad_nd reflection_pad2d replication_pad2d roll flip repeat repeat_interleave tril triu
    index index_put index_select gather scatter masked_fill where embedding im2col col2im
    channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle copy fill zero resize _local_scalar_dense
    empty empty_like zeros zeros_like ones ones_like new_zeros new_ones new_empty new_full full full_like
    arange linspace scalar_tensor eye meshgrid rand randn normal uniform
"""
# The same elements in another shape, order or layout: no row of the table.
_RESHAPING_NAMES: Final = """
    view _unsafe_view reshape _reshape_alias permute transpose t expand unsqueeze squeeze clone _to_copy contiguous
    alias detach select slice split split_with_sizes unbind lift_fresh as_strided unfold chunk
"""
_FREE: Final = frozenset(_FREE_NAMES.split())
RESHAPING: Final = frozenset(_RESHAPING_NAMES.split())
_ATTENTION: Final = "scaled_dot_product"


def base_name(operation: OpOverload) -> str:
    """`aten::relu_.default` → `relu`: without namespace, overload and the mark of working in place."""
    name = operation._schema.name.split("::")[1]
    return name if name.endswith("__") else name.rstrip("_")


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution or pool; every pair is (rows, columns)."""

    kernel: Pair
    stride: tuple[Fraction | int, Fraction | int]
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    transposed: bool = False


def multiply_adds(operation: OpOverload, arguments: Sequence[Any], output: object) -> int | None:
    """The multiply-adds of one operation on the whole batch; None where it does some that are not known.

    A convolution: output elements × weights of one filter; transposed: input elements × weights that one of them meets.
    A product of (a, b) and (b, c) matrices: a·b·c.
    """
    name = base_name(operation)
    if operation.namespace != "aten":
        return None
    if name == "convolution":
        inside, weight, transposed = arguments[0], arguments[1], arguments[6]
        assert isinstance(output, Tensor)
        meets = inside.numel() if transposed else output.numel()
        return int(meets * weight.shape[1:].numel())
    if name in ("mm", "bmm"):
        return int(arguments[0].numel() * arguments[1].shape[-1])
    if name in ("addmm", "baddbmm"):
        return int(arguments[1].numel() * arguments[2].shape[-1])
    if _ATTENTION in name:
        query, key, value = arguments[:3]
        scores = math.prod(query.shape[:-1]) * key.shape[-2]
        return int(scores * (query.shape[-1] + value.shape[-1]))
    free = name in _FREE or name in RESHAPING or operation.is_view or torch.Tag.pointwise in operation.tags
    return 0 if free else None


def window_of(operation: OpOverload, arguments: Sequence[Any], output: object) -> Window | None:
    """The window of a 2-D convolution or pool, global pools included; None for all else."""
    name = base_name(operation)
    if name == "convolution":
        weight, _, stride, padding, dilation, transposed, _, groups = arguments[1:9]
        if weight.ndim != 4:
            return None
        return Window(tuple(weight.shape[2:]), _pair(stride), _pair(padding), _pair(dilation), groups, transposed)
    if name in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel, *rest = arguments[1:]
        stride = rest[0] if rest and rest[0] else kernel
        padding = rest[1] if len(rest) > 1 else 0
        dilation = rest[2] if len(rest) > 2 and name.startswith("max") else 1
        return Window(_pair(kernel), _pair(stride), _pair(padding), _pair(dilation))
    if name in ("_adaptive_avg_pool2d", "adaptive_max_pool2d"):
        shape = output.shape if isinstance(output, Tensor) else output[0].shape  # type: ignore[index]
        rows, columns = (
            adaptive_window(inside, outside)
            for inside, outside in zip(arguments[0].shape[-2:], shape[-2:], strict=True)
        )
        return Window((rows[0], columns[0]), (rows[1], columns[1]))
    if name in ("mean", "amax") and len(arguments) > 1 and arguments[0].ndim == 4 and arguments[1]:
        dims = arguments[1] if isinstance(arguments[1], list | tuple) else [arguments[1]]
        if sorted(d % 4 for d in dims) == [2, 3]:
            height, width = arguments[0].shape[2:]
            return Window((height, width), (height, width))
    return None


def kind_of(operation: OpOverload, arguments: Sequence[Any]) -> str:
    """The table's word for an operation; PyTorch's own, with spaces, where it has none."""
    name = base_name(operation)
    if name == "convolution" and arguments[6]:
        return "transposed conv"
    if name in ("mean", "amax") and window_of(operation, arguments, None) is not None:
        return "avg pool" if name == "mean" else "max pool"
    if _ATTENTION in name:
        return "matmul"
    return KINDS.get(name, name.strip("_").replace("_", " "))


def _pair(value: int | Sequence[int]) -> Pair:
    """1 → (1, 1), [2] → (2, 2), [2, 3] → (2, 3)."""
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])
