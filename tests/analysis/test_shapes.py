"""Output shapes worked out here, against PyTorch's own of tensors with data."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from graft.analysis.readers.meta import run_without_data
from graft.analysis.shapes import output_shape, windows

aten = torch.ops.aten
PICTURE = (2, 8, 13, 10)


def drawn(*shape: int) -> Tensor:
    return torch.zeros(shape)


def agrees(operation: torch._ops.OpOverload, *arguments: object) -> None:
    """The rule gives the shape that PyTorch computes, for an operation that has one."""
    name = operation._schema.name.removeprefix("aten::")
    found = operation(*arguments)
    first = found if isinstance(found, Tensor) else found[0]
    assert output_shape(name, arguments) == tuple(first.shape)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((3, 3), [1, 1], [1, 1], [1, 1]), ((11, 7), [4, 3], [2, 0], [1, 1]), ((3, 3), [2, 2], [2, 2], [2, 3])],
)
def test_convolutions(
    kernel: tuple[int, int], stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> None:
    weight = drawn(12, 8 // groups, *kernel)
    agrees(aten.convolution.default, drawn(*PICTURE), weight, None, stride, padding, dilation, False, [0, 0], groups)


def test_a_convolution_in_one_dimension() -> None:
    x, weight = drawn(2, 4, 9), drawn(6, 4, 3)
    agrees(aten.convolution.default, x, weight, None, [2], [1], [1], False, [0], 1)


def test_pools_of_every_geometry_that_pytorch_takes() -> None:
    for kernel, stride, ceil in itertools.product((2, 3, 5), (1, 2, 3), (False, True)):
        for padding in range(kernel // 2 + 1):
            given = (drawn(*PICTURE), [kernel], [stride], [padding])
            agrees(aten.max_pool2d_with_indices.default, *given, [1], ceil)
            agrees(aten.avg_pool2d.default, *given, ceil)
    agrees(aten.max_pool2d_with_indices.default, drawn(*PICTURE), [3, 2], [], [0, 0], [2, 2])
    agrees(aten.avg_pool3d.default, drawn(2, 1, 8, 5, 5), [5, 1, 1], [1, 1, 1])
    agrees(aten._adaptive_avg_pool2d.default, drawn(*PICTURE), [7, 3])


def test_a_last_window_does_not_start_in_the_padding_behind() -> None:
    """5 pixels, windows of 2 every 3, padded by 1: at −1, 2 and 5, the last of which is all padding."""
    assert windows(5, 2, 3, 1, ceil=True) == 2
    assert windows(6, 2, 3, 1, ceil=True) == 3
    assert (windows(224, 7, 2, 3), windows(55, 3, 2, 0)) == (112, 27)


def test_products_and_joins() -> None:
    agrees(aten.mm.default, drawn(2, 5), drawn(5, 3))
    agrees(aten.addmm.default, drawn(3), drawn(2, 5), drawn(5, 3))
    agrees(aten.cat.default, [drawn(2, 3, 4), drawn(2, 1, 4)], 1)
    agrees(aten.cat.default, [drawn(2, 3, 4), drawn(2, 3, 5)], -1)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (aten.convolution.default, (drawn(1, 3, 8, 8), drawn(4, 2, 3, 3), None, [1], [0], [1], False, [0], 1)),
        (aten.convolution.default, (drawn(1, 3, 2, 2), drawn(4, 3, 3, 3), None, [1], [0], [1], False, [0], 1)),
        (aten.max_pool2d_with_indices.default, (drawn(1, 3, 8, 8), [2], [2], [2])),
        (aten.max_pool2d_with_indices.default, (drawn(1, 3, 2, 8), [3], [2])),
        (aten.mm.default, (drawn(2, 5), drawn(4, 3))),
        (aten.cat.default, ([drawn(2, 3), drawn(2, 4)], 0)),
    ],
)
def test_what_does_not_fit_is_left_to_pytorch_which_refuses(
    operation: torch._ops.OpOverload, arguments: tuple[object, ...]
) -> None:
    assert output_shape(operation._schema.name.removeprefix("aten::"), arguments) is None
    with pytest.raises((RuntimeError, IndexError)):
        operation(*arguments)


@pytest.mark.parametrize("shape", [(2, 8, 13, 10), (2, 8, 1, 1), (10,), (1,)])
def test_pointwise_operations_broadcast_as_pytorch_does(shape: tuple[int, ...]) -> None:
    x, other = drawn(*PICTURE), drawn(*shape)
    for operation in (aten.add.Tensor, aten.mul.Tensor):
        for a, b in ((x, other), (other, x)):
            found = run_without_data(operation, (a.to("meta"), b.to("meta")), {})
            assert found.shape == operation(a, b).shape


def test_the_lectures_networks_need_neither_pytorch_s_compiler_nor_its_algebra() -> None:
    """`graft analyze` answers in under three seconds, of which these would take one."""
    code = (
        "import sys; from graft.jobs.analyze import analyze\n"
        "for name in ('resnet152', 'googlenet', 'senet154', 'alphago_policy'): analyze(name)\n"
        "print([name for name in ('torch._dynamo', 'sympy', 'timm', 'torchvision', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n"
