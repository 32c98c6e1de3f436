"""From a name and a set of weights to a network ready to use."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from graft.errors import BadModel, shown
from graft.models.activation import with_activation
from graft.models.card import IMAGENET_MEAN, IMAGENET_STD, Card, Published
from graft.models.catalog import create, find
from graft.models.network import Built, head
from graft.models.published import COUNTER, in_our_names
from graft.models.weights import Builder, Source


def build(source: Source) -> Built:
    """The network of `source` with its weights, in eval mode, 1,000 classes unless the weights say otherwise.

    Raises UsageError for an architecture that cannot be cut, BadModel for weights that are not its own, are not
    finite, or (a download) cannot be had.
    """
    return _build_ours(source) if source.builder == "graft" else _build_timms(source)


def bare(builder: Builder, architecture: str, *, num_classes: int, activation: str | None = None) -> Built:
    """A network that still waits for its weights, in eval mode: whatever stands there, until `load_weights` fills it.

    builder, architecture: as a `Source` has them. activation: in place of the paper's, for our own networks.
    Raises UsageError for an architecture that cannot be cut.
    """
    if builder == "timm":
        from graft.models.adapter import adapt  # with timm, seconds that our own networks do without

        return adapt(architecture, num_classes=num_classes)
    card = find(architecture)
    with torch.device("meta"):  # no time spent on drawing weights that are to be replaced
        network = create(architecture, num_classes=num_classes).eval()
        if activation:
            with_activation(network, activation)
    network._apply(  # type: ignore[no-untyped-call]  # `to_empty` would import symbolic algebra
        lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)
    )
    names = {name: name for name in network.state_dict()}
    if not card.published:
        return Built(network, names, card.takes.side, IMAGENET_MEAN, IMAGENET_STD, "bilinear")
    first = card.published[0]
    return Built(network, names, card.takes.side, first.mean, first.std, first.interpolation)


def _build_ours(source: Source) -> Built:
    card = find(source.architecture)
    file = source.file
    tensors = read_weights(file) if file else _download(card.published[0], source.network)
    tensors, num_classes = _read_as(card, tensors, by_position=source.by_position)
    built = bare("graft", card.name, num_classes=num_classes)
    load_weights(built, tensors, name=str(file or f"{card.published[0].library}'s {card.published[0].model}"))
    return built


def _read_as(card: Card, tensors: Mapping[str, Tensor], *, by_position: bool) -> tuple[dict[str, Tensor], int]:
    """The tensors under our names, and how many classes they were trained for (the card's, where that is missing)."""
    with torch.device("meta"):
        network = create(card.name)
    if by_position:
        renamed = dict(zip(network.state_dict(), tensors.values(), strict=True))
    else:
        renamed = in_our_names(network, card, tensors)
    last = head(network)
    name = next(name for name, parameter in network.named_parameters() if parameter is last.weight)
    weight = renamed.get(name)
    return renamed, weight.shape[0] if weight is not None and weight.ndim else card.classes


def _build_timms(source: Source) -> Built:
    if source.file is None:
        from graft.models.adapter import adapt

        with _downloading(source.network):
            return adapt(source.architecture, pretrained=True)
    tensors = read_weights(source.file)
    built = bare("timm", source.architecture, num_classes=_num_classes(tensors, source.architecture))
    load_weights(built, tensors, name=str(source.file))
    return built


def _download(published: Published, network: str) -> dict[str, Tensor]:
    """The tensors that a library publishes, by its names: its own download, kept in its own cache."""
    with _downloading(network):
        if published.library == "timm":
            import timm

            theirs: nn.Module = timm.create_model(published.model, pretrained=True)
        else:
            from torchvision import models  # type: ignore[import-untyped]

            theirs = models.get_model(published.model, weights="DEFAULT", progress=False)
    return theirs.state_dict()


@contextmanager
def _downloading(network: str) -> Iterator[None]:
    """Make one line of whatever a library says when a download fails, its retries left out."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    except (OSError, RuntimeError) as error:  # the libraries' errors derive from either, by their cause
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadModel(
            f"weights of {network} could not be downloaded ({first[:120]}); give --weights FILE, or use a "
            "network that comes with graft, such as efficientnet-lite0"
        ) from error
    finally:
        hub.setLevel(level)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file, by name; only tensors are ever unpickled.

    Raises BadModel for anything else.
    """
    try:
        tensors: object
        if file.suffix == ".safetensors":
            tensors = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its notice of an unusual pickle; what matters is refused below
                tensors = torch.load(file, map_location="cpu", weights_only=True)
            for wrapper in ("state_dict", "model_state_dict", "model"):
                if isinstance(tensors, Mapping) and isinstance(tensors.get(wrapper), Mapping):
                    tensors = tensors[wrapper]
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BadModel(
            f"{shown(file)} is not a file of weights ({type(error).__name__}); give a .safetensors file, or a .pt file "
            "that holds a state dict of tensors and nothing else"
        ) from error
    if (
        not isinstance(tensors, Mapping)
        or not tensors
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items())
    ):
        raise BadModel(f"{shown(file)} holds no state dict of tensors; save one with safetensors.torch.save_file")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def load_weights(built: Built, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Copy tensors, by their names in `built.published`, into a network; all of them or none.

    name: where they come from, for messages. Raises BadModel listing what is missing, extra, of another shape or not
    finite.
    """
    wanted = {theirs: ours for ours, theirs in built.published.items()}
    state = built.network.state_dict()
    counters = {theirs for theirs in wanted if theirs.endswith(COUNTER)}
    missing = [t for t in wanted if t not in tensors and t not in counters]
    extra = [t for t in tensors if t not in wanted]
    shapes = [
        f"{theirs} is {tuple(tensors[theirs].shape)} and should be {tuple(state[ours].shape)}"
        for theirs, ours in wanted.items()
        if theirs in tensors and not _same_shape(tensors[theirs], state[ours])
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
    built.network.load_state_dict(
        {ours: tensors[theirs].reshape(state[ours].shape) if theirs in tensors else torch.zeros_like(state[ours])
         for theirs, ours in wanted.items()}
    )  # fmt: skip


def _same_shape(theirs: Tensor, ours: Tensor) -> bool:
    """Equal, or a linear layer that is published as a 1×1 convolution: (K, D, 1, 1) for (K, D)."""
    return theirs.shape[: ours.ndim] == ours.shape and theirs.numel() == ours.numel()


def _num_classes(tensors: Mapping[str, Tensor], timm_name: str) -> int:
    """How many classes the weights were trained for: the rows of the layer that timm calls the classifier.

    1,000 where there is no such tensor, and for names that timm does not know; what is wrong is said further on.
    """
    import timm

    if not timm.is_model(timm_name):
        return 1000
    layer = timm.get_pretrained_cfg_value(timm_name, "classifier")
    weight = tensors.get(f"{layer}.weight")
    return weight.shape[0] if weight is not None and weight.ndim else 1000
