"""Networks with fresh weights, to train from scratch: ours by name, timm's CNNs as timm:NAME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.errors import UsageError, nearest, shown
from graft.models.card import Card
from graft.models.catalog import look_up
from graft.models.weights import Builder, unknown

if TYPE_CHECKING:
    from torch import nn

_PICTURE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Plan:
    """A network that is to be built with fresh weights.

    network: the name the user gave. builder, architecture: whose network it is, and its name there. channels: 1 where
    it takes grey pictures, else 3. side: of the pictures it gets, pixels.
    """

    network: str
    builder: Builder
    architecture: str
    channels: int
    side: int


def plan(network: str, *, side: int | None = None) -> Plan:
    """What to build for a name that `graft networks` lists, or timm:NAME. Imports no torch but for timm's networks.

    side: of the pictures, pixels; None for the size of the network's paper.
    Raises UsageError for another name, a network that takes no pictures, or a side that it does not take.
    """
    if network.startswith("timm:"):
        return _of_timm(network, network.removeprefix("timm:"), side)
    if (card := look_up(network)) is not None:
        return _of_ours(card, side)
    raise unknown(network)


def fresh(planned: Plan, *, num_classes: int, seed: int) -> tuple[nn.Module, dict[str, str]]:
    """The network with weights drawn from `seed`, and the published name of each tensor that a model of it keeps.

    It is in training mode. Where its paper trains auxiliary classifiers and the pictures have the paper's size, it has
    them, and they are not kept. torch's own generator is left as it was.
    """
    import torch

    from graft.models.catalog import create, find

    if planned.builder == "graft":
        card = find(planned.architecture)
        auxiliary = bool(card.auxiliary_parameters) and planned.side == card.takes.side
        network = create(card.name, num_classes=num_classes, auxiliary=auxiliary, seed=seed).train()
        return network, {name: name for name in network.state_dict() if not name.startswith("auxiliary.")}
    from graft.models.adapter import adapt  # with timm, seconds that our own networks do without

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = adapt(planned.architecture, num_classes=num_classes)
    return built.network.train(), built.published


def _of_ours(card: Card, side: int | None) -> Plan:
    takes = card.takes
    if takes.channels not in _PICTURE_CHANNELS:
        raise UsageError(
            f"{card.name} takes {takes.channels} planes and no pictures; choose another network, such as resnet18"
        )
    if side is not None and side != takes.side and (takes.smallest is None or side < takes.smallest):
        allowed = f"{takes.side} pixels only" if takes.smallest is None else f"{takes.smallest} pixels or more"
        raise UsageError(f"{card.name} takes pictures of {allowed}, got --size {side}; leave --size out for its own")
    return Plan(card.name, "graft", card.name, takes.channels, side or takes.side)


def _of_timm(network: str, architecture: str, side: int | None) -> Plan:
    import timm

    if not timm.is_model(architecture):
        raise UsageError(f"timm has no network {shown(architecture)!r}{nearest(architecture, timm.list_models())}")
    return Plan(network, "timm", architecture, 3, side or _timm_side(architecture))


def _timm_side(architecture: str) -> int:
    import timm

    size = timm.get_pretrained_cfg_value(architecture, "input_size")
    return int(size[1]) if size else 224
