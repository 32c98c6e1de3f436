"""From a name and a set of weights to a network ready to use."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from graft.errors import BadModel, shown
from graft.models.adapter import Adapted, adapt
from graft.models.weights import Source


def build(source: Source) -> Adapted:
    """The network of `source` with its weights, in eval mode, 1,000 classes unless the weights say otherwise.

    Raises UsageError for an architecture that cannot be cut, BadModel for weights that are not its own, are not
    finite, or (timm's download) cannot be had.
    """
    if source.file is None:
        try:
            return adapt(source.timm_name, pretrained=True)
        except (OSError, RuntimeError) as error:  # hub errors derive from either, by their cause
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BadModel(
                f"weights of {source.network} could not be downloaded ({first[:120]}); give --weights FILE, or use a "
                "network that comes with graft, such as efficientnet-lite0"
            ) from error
    tensors = read_weights(source.file)
    adapted = adapt(source.timm_name, num_classes=_num_classes(tensors))
    if source.by_position:
        tensors = dict(zip(adapted.published.values(), tensors.values(), strict=True))
    load_weights(adapted, tensors, name=str(source.file))
    return adapted


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file, by name; only tensors are ever unpickled.

    Raises BadModel for anything else.
    """
    try:
        tensors: object
        if file.suffix == ".safetensors":
            tensors = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
            for wrapper in ("state_dict", "model_state_dict", "model"):
                if isinstance(tensors, Mapping) and isinstance(tensors.get(wrapper), Mapping):
                    tensors = tensors[wrapper]
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BadModel(
            f"{shown(file)} is not a file of weights ({type(error).__name__}); give a .safetensors file, or a .pt file "
            "that holds a state dict of tensors and nothing else"
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()) or not tensors:
        raise BadModel(f"{shown(file)} holds no state dict of tensors; save one with safetensors.torch.save_file")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def load_weights(adapted: Adapted, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Copy tensors, by timm's names, into a network; all of them or none.

    name: where they come from, for messages. Raises BadModel listing what is missing, extra, of another shape or not
    finite.
    """
    wanted = {theirs: ours for ours, theirs in adapted.published.items()}
    state = adapted.network.state_dict()
    counters = {theirs for theirs in wanted if theirs.endswith("num_batches_tracked")}
    missing = [t for t in wanted if t not in tensors and t not in counters]
    extra = [t for t in tensors if t not in wanted]
    shapes = [
        f"{theirs} is {tuple(tensors[theirs].shape)} and should be {tuple(state[ours].shape)}"
        for theirs, ours in wanted.items()
        if theirs in tensors and tensors[theirs].numel() != state[ours].numel()
    ]
    if missing or extra or shapes:
        parts = [
            f"{len(group)} {what} ({', '.join(group[:3])}{', …' if len(group) > 3 else ''})"
            for what, group in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
            if group
        ]
        raise BadModel(
            f"{shown(name)} does not fit the network: {'; '.join(parts)}; choose the network it was made for"
        )
    unsound = [t for t in wanted if t in tensors and not torch.isfinite(tensors[t].float()).all()]
    if unsound:
        raise BadModel(f"{shown(name)} holds values that are not finite, in {unsound[0]}; get a sound copy of the file")
    adapted.network.load_state_dict(
        {ours: tensors[theirs].reshape(state[ours].shape) if theirs in tensors else state[ours]
         for theirs, ours in wanted.items()}
    )  # fmt: skip


def _num_classes(tensors: Mapping[str, Tensor]) -> int:
    """The length of the last bias or the rows of the last matrix: how many classes the weights were trained for."""
    last = list(tensors.values())[-1]
    return last.shape[0] if last.ndim else 1000
