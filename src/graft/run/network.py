"""The network that is trained from scratch, as the settings have it, and how it is put into a model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graft.classifier.artefact import MEAN_OFFSET
from graft.data.preprocess import Preprocess
from graft.errors import UsageError
from graft.heads.head import LOGISTIC, Head
from graft.models.card import IMAGENET_MEAN, IMAGENET_STD
from graft.models.fresh import Plan, fresh
from graft.runtime.export import LUMA, export_onnx, pixels_first
from graft.runtime.graph import with_head
from graft.training.loop.pictures import Pictures
from graft.training.recipe.normalize import Normalization, normalization_of
from graft.training.recipe.settings import Recipe

if TYPE_CHECKING:
    from torch import nn


def normalization_for(train: Pictures, kind: str, fit: str) -> Normalization:
    """Measured on the training pictures; ImageNet's where bars of the mean colour had to be known before."""
    if fit != "pad":
        return normalization_of(train, kind)
    channels = train.shape[2]
    mean, std = (np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    if channels == 1:
        mean, std = (values @ np.array(LUMA, np.float32)[:, None] for values in (mean, std))
    return Normalization(mean, std)


def preprocess_of(seen: Preprocess, normalization: Normalization) -> Preprocess:
    """What the pictures went through, with the normalisation that was measured; bars keep the colour they had."""
    if seen.fit == "pad" and len(normalization.std) == 3:
        return seen
    mean = normalization.mean if normalization.mean.ndim == 1 else normalization.mean.mean(axis=(1, 2))
    return replace(seen, mean=tuple(map(float, mean)), std=tuple(map(float, normalization.std)))


def network_for(planned: Plan, num_classes: int, recipe: Recipe) -> tuple[nn.Module, dict[str, str]]:
    """A fresh network with what the settings change in it, and the published names of its tensors."""
    import torch

    from graft.models.activation import with_activation
    from graft.models.initial import initialize

    network, published = fresh(planned, num_classes=num_classes, seed=recipe.seed)
    if recipe.activation is not None:
        if planned.builder != "graft":
            raise UsageError(f"--activation is for our own networks, {planned.network} is timm's; leave it out")
        with_activation(network, recipe.activation)
        published = {name: name for name in network.state_dict() if not name.startswith("auxiliary.")}
    if recipe.initialization is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            initialize(network, recipe.initialization)
    return regularized(network, recipe), published


def regularized(network: nn.Module, recipe: Recipe) -> nn.Module:
    """The network, changed in place, with the regularisers that are a part of it."""
    from graft.training.recipe.regularize import with_dropconnect, with_dropout, with_stochastic_depth

    if recipe.dropout is not None:
        with_dropout(network, recipe.dropout)
    if recipe.dropconnect is not None:
        with_dropconnect(network, recipe.dropconnect)
    if recipe.stochastic_depth is not None:
        with_stochastic_depth(network, recipe.stochastic_depth)
    return network


def graph_of(
    network: nn.Module, preprocess: Preprocess, normalization: Normalization, classes: tuple[str, ...]
) -> bytes:
    """The trained network as an ONNX file's bytes: pixels (N, S, S, 3) → probabilities and logits (N, K)."""
    import torch

    from graft.models.network import head, trunk

    network.eval().cpu().to(memory_format=torch.contiguous_format)
    module = pixels_first(trunk(network), preprocess.mean, preprocess.std, _mean_offset(normalization))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trunk.onnx"
        export_onnx(module, file, size=preprocess.size, output="features")
        last = head(network)
        weight = last.weight.detach().numpy()
        bias = last.bias.detach().numpy() if last.bias is not None else np.zeros(len(weight), np.float32)
        return with_head(file, Head(LOGISTIC, weight, bias), classes)


def _mean_offset(normalization: Normalization) -> NDArray[np.float32] | None:
    """What a mean image subtracts beyond the mean of its channels, in normalised units: (C, S, S)."""
    if normalization.mean.ndim == 1:
        return None
    over = normalization.mean - normalization.mean.mean(axis=(1, 2), keepdims=True)
    return np.asarray(over / normalization.std[:, None, None], np.float32)


def tensors_of(
    network: nn.Module, published: Mapping[str, str], normalization: Normalization
) -> dict[str, NDArray[Any]]:
    """The network's weights by their published names, and a mean image's offset."""
    state = network.state_dict()
    tensors = {theirs: np.asarray(state[ours].numpy(), order="C") for ours, theirs in published.items()}
    offset = _mean_offset(normalization)
    return tensors if offset is None else {**tensors, MEAN_OFFSET: offset}


def head_name(network: nn.Module, published: Mapping[str, str]) -> str:
    """The published name of the last linear layer."""
    from graft.models.network import head

    weight = head(network).weight
    name = next(name for name, parameter in network.named_parameters() if parameter is weight)
    return published[name].removesuffix(".weight")
