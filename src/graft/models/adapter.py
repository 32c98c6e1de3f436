"""timm's CNNs as networks of this package: named stages, then a classifier.

timm writes most CNNs as children that run one after another (a stem, blocks or layers, a pool, a linear layer), but
says so nowhere. The adapter takes the children in their order, and believes it only when the composed network gives
the same output as timm's own `forward` on a random input. A body that is not such a chain becomes one stage.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any, Final, cast

import timm
import torch
from torch import Tensor, nn

from graft.errors import UsageError, nearest
from graft.models.network import Built, Network, head

_CHAINS: Final = ("blocks", "stages", "layers", "features", "body")  # children that hold the stages themselves


class _Body(nn.Module):
    """A body that is not a chain, as one stage: (N, 3, H, W) → maps (N, C, h, w)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model.forward_features(x))  # type: ignore[operator]


def adapt(timm_name: str, *, num_classes: int = 1000, pretrained: bool = False) -> Built:
    """Build a CNN of timm as stages and classifier, in eval mode.

    pretrained: fetch timm's own weights, which needs a network connection.
    Raises UsageError for a name that timm does not know or a network that is not a CNN with a linear classifier.
    """
    known = timm.list_models()
    if timm_name.split(".")[0] not in known:
        raise UsageError(
            f"timm has no network {timm_name!r}{nearest(timm_name, known)}; `timm:NAME` takes timm's names"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's notices about renamed models
        model: Any = timm.create_model(timm_name, pretrained=pretrained, num_classes=num_classes).eval()
    config: dict[str, Any] = model.pretrained_cfg
    channels, size, _ = config["input_size"]
    if channels != 3:
        raise UsageError(f"timm:{timm_name} takes {channels} channels, graft's pictures have 3; choose another network")
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    model_names = list(names.values())
    probe = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, logits = model.forward_features(probe), model(probe)
    if maps.ndim != 4 or maps.shape[1] == maps.shape[3] == size:
        raise UsageError(f"timm:{timm_name} does not end in maps (N, C, h, w); choose a convolutional network")
    final = model.get_classifier()
    network = _compose(model, timm_name)
    names |= {
        id(ours): names[id(theirs)] for ours, theirs in zip(head(network).parameters(), final.parameters(), strict=True)
    }
    with torch.inference_mode():
        if not _close(_maps(network, probe), maps):
            network = _as_one_stage(model, timm_name, network.classifier)
        if not _close(network(probe), logits):
            raise UsageError(f"timm:{timm_name} cannot be cut into stages and a linear layer; choose another network")
    published = {ours: names[id(tensor)] for ours, tensor in network.state_dict(keep_vars=True).items()}
    if sorted(published.values()) != sorted(model_names):
        raise UsageError(f"timm:{timm_name} shares or hides weights, so it cannot be cut; choose another network")
    return Built(network.eval(), published, size, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])


def _compose(model: nn.Module, timm_name: str) -> Network:
    """The chain of a timm model's children, split into stages and classifier."""
    children = list(model.named_children())
    last = model.get_classifier()  # type: ignore[operator]
    boundary = next((i for i, (name, _) in enumerate(children) if name in ("pre_logits", "global_pool", "head")), None)
    pointwise = isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1)
    if boundary is None or not (pointwise or isinstance(last, nn.Linear)):
        raise UsageError(f"timm:{timm_name} does not end in a pool and one linear layer; choose another network")
    tree: OrderedDict[str, nn.Module] = OrderedDict()
    names: list[str] = []
    for name, child in children[:boundary]:
        if name in _CHAINS and isinstance(child, nn.Sequential):
            tree[name] = child
            names += [f"{name}.{inner}" for inner, _ in child.named_children()]
        elif names and "." not in names[-1] and _is_single(child) and _is_open(tree[names[-1]]):
            cast(nn.Sequential, tree[names[-1]]).add_module(name, child)  # a norm, activation or pool after its layer
        else:
            stage = "stem" if not names and name != "stem" else name
            tree[stage] = nn.Sequential(OrderedDict([(name, child)])) if _is_single(child) else child
            names.append(stage)
    return Network(nn.Sequential(tree), tuple(names), _classifier(children[boundary:], last))


def _classifier(tail: list[tuple[str, nn.Module]], last: nn.Linear | nn.Conv2d) -> nn.Sequential:
    """Pool, hidden layers if any, then the linear layer (which some networks write as a 1×1 convolution)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in tail:
        if child is last:
            continue
        if any(module is last for module in child.modules()):
            owner = next(m for m in child.modules() if any(c is last for c in m.children()))
            key = next(k for k, c in owner.named_children() if c is last)
            setattr(owner, key, nn.Identity())  # the linear layer moves out of timm's head module
        parts[name] = child
    if isinstance(last, nn.Linear):
        return nn.Sequential(OrderedDict([*parts.items(), ("linear", last)]))
    linear = nn.Linear(last.in_channels, last.out_channels)
    linear.weight.data, linear.bias.data = last.weight.data.flatten(1), cast(Tensor, last.bias).data  # (K, D), (K,)
    return nn.Sequential(OrderedDict([*parts.items(), ("flatten", nn.Flatten()), ("linear", linear)]))


def _as_one_stage(model: nn.Module, timm_name: str, classifier: nn.Sequential) -> Network:
    """The fallback for bodies with branches: all of it is the stage `features`."""
    if any(True for part in list(classifier)[:-1] for _ in part.parameters()):
        raise UsageError(f"timm:{timm_name} has layers between pool and classifier that graft cannot separate")
    for name, child in list(model.named_children()):
        if any(child is part for part in classifier):
            setattr(model, name, nn.Identity())  # `forward_features` never reaches what stands in the classifier
    return Network(nn.Sequential(OrderedDict(features=_Body(model))), ("features",), classifier)


def _is_single(module: nn.Module) -> bool:
    """One layer, or one layer with its activation inside, rather than a block."""
    return sum(1 for m in module.modules() if next(m.parameters(recurse=False), None) is not None) <= 1


def _is_open(stage: nn.Module) -> bool:
    """A stage that the adapter made of single layers, to which more may be added."""
    return type(stage) is nn.Sequential and all(_is_single(part) for part in stage)


def _maps(network: Network, x: Tensor) -> Tensor | None:
    """The last stage's maps, or None where the children do not compose."""
    for name in network.stage_names:
        try:
            x = network.stages.get_submodule(name)(x)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # a body with branches or skips
            return None
    return x


def _close(ours: Tensor | None, theirs: Tensor) -> bool:
    return ours is not None and ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
