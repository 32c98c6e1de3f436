"""Batch norm that normalises by its running statistics while it trains, and costs next to nothing then.

On few pictures of a new kind the statistics of a small batch are noise, and those of the pretraining are the ones that
the weights go with; so fine-tuning may keep them. With fixed statistics batch norm is an affine map, y = s x + t with
s = γ / √(σ² + ε) and t = β − s μ, and after a convolution it is part of it: weights s W and bias s b + t [1]. Computed
anew in every step, as a function of W, b, γ and β, the folded convolution gives all of them their gradients, and two
passes over the maps forwards and two backwards are saved.

[1] Jacob et al., CVPR 2018, §3.2, eq. 14, arXiv 1712.05877, who fold for quantisation.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graft.training.cpu.depthwise import FastDepthwise

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]

_CONVOLUTIONS: Final = (nn.Conv2d, FastDepthwise)
_NORMS: Final = ("torch.nn.modules.batchnorm.BatchNorm2d", "timm.layers.norm_act.BatchNormAct2d")
"""Classes that normalise, and then run their children one after another: none, or timm's dropout and activation."""


@contextlib.contextmanager
def kept_statistics(network: nn.Module, *, everywhere: bool) -> Iterator[None]:
    """Within it batch norm uses its running statistics and leaves them as they are, in training mode too.

    everywhere: in all layers; else in frozen ones, whose weights take no gradient.
    """

    def keep(norm: nn.Module, _inputs: tuple[Any, ...]) -> None:
        if everywhere or (norm.weight is not None and not norm.weight.requires_grad):
            norm.eval()

    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
    handles = [norm.register_forward_pre_hook(keep) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def folded_batch_norm(network: nn.Module, x: Tensor) -> Iterator[None]:
    """Within it every batch norm that follows a convolution is folded into it; values and gradients are the same.

    x: (n, C, H, W), an input that shows which follows which. The statistics must be kept, as `kept_statistics` does.
    """
    pairs = pairs_to_fold(network, x)
    before = [(layer, layer.__class__) for pair in pairs for layer in pair]
    for convolution, norm in pairs:
        convolution.unfolded = convolution.__class__  # type: ignore[assignment]
        convolution.norm = (norm,)  # type: ignore[assignment]  # in a tuple, so that it is no child of the layer
        convolution.__class__, norm.__class__ = FoldedConvolution, FoldedNorm
    try:
        yield
    finally:
        for layer, its_class in before:
            layer.__class__ = its_class
        for convolution, _ in pairs:
            del convolution.unfolded, convolution.norm


class FoldedConvolution(nn.Conv2d):
    """A convolution and the normalisation after it, in one."""

    unfolded: type[nn.Conv2d]
    norm: tuple[nn.BatchNorm2d]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H', W'), normalised."""
        weight, bias = folded(self.weight, self.bias, self.norm[0])
        y: Tensor = self.unfolded._conv_forward(self, x, weight, bias)
        return y


class FoldedNorm(nn.BatchNorm2d):
    """What is left of a batch norm that stands in the convolution before it: nothing, or timm's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        for child in self.children():
            x = child(x)
        return x


def folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weights (C', C / groups, kh, kw) and bias (C',) of a convolution followed by a batch norm of C' channels."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (C',)
    centre = norm.running_mean if bias is None else norm.running_mean - bias
    return weight * scale.view(-1, 1, 1, 1), norm.bias - centre * scale


def pairs_to_fold(network: nn.Module, x: Tensor) -> tuple[Pair, ...]:
    """Convolutions whose output goes into a batch norm, and nowhere else, as one pass of x (n, C, H, W) shows.

    Layers that run more than once, and batch norm without weights or running statistics, are left out.
    """
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]] = []
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # kept, so that no other tensor gets the identity
    runs: Counter[nn.Module] = Counter()
    uses: Counter[int] = Counter()

    class Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]  # by torch
        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            uses.update({id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)})
            return func(*args, **(kwargs or {}))

    def leaves(convolution: nn.Module, _inputs: tuple[Any, ...], y: Tensor) -> None:
        assert isinstance(convolution, nn.Conv2d)
        runs[convolution] += 1
        outputs[id(y)] = (convolution, y)
        uses[id(y)] = 0

    def enters(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        runs[norm] += 1
        if id(inputs[0]) in outputs:
            found.append((outputs[id(inputs[0])][0], norm, inputs[0]))

    with contextlib.ExitStack() as stack:
        for layer in network.modules():
            if type(layer) in _CONVOLUTIONS:
                stack.callback(layer.register_forward_hook(leaves).remove)
            elif isinstance(layer, nn.BatchNorm2d) and _can_be_folded(layer):
                stack.callback(layer.register_forward_pre_hook(enters).remove)
        stack.enter_context(kept_statistics(network, everywhere=True))
        stack.enter_context(torch.no_grad())
        stack.enter_context(Uses())  # type: ignore[no-untyped-call]
        network(x)
    return tuple(
        (convolution, norm)
        for convolution, norm, y in found
        if runs[convolution] == 1 and runs[norm] == 1 and uses[id(y)] == 1
    )


def _can_be_folded(norm: nn.BatchNorm2d) -> bool:
    known = f"{type(norm).__module__}.{type(norm).__qualname__}" in _NORMS
    return known and norm.affine and norm.running_mean is not None
