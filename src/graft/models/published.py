"""Weights that another library publishes, for our own networks: by the names on the network's card."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from graft.models.card import Card
from graft.models.names import Renaming, renamed

COUNTER = "num_batches_tracked"  # batch norm's count of batches: of no effect, and absent from weights of before 2018


def in_our_names(network: nn.Module, card: Card, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under our names, whosever names they have: ours, or those of a library on the card.

    network: the card's own, for its names. Whichever reading gives most of them is taken; whether all fit is for the
    loading to say.
    """
    needed = network.state_dict().keys()
    readings = [dict(state_dict), *(_renamed(state_dict, published.names) for published in card.published)]
    return _without_spare(network, max(readings, key=lambda weights: len(weights.keys() & needed)))


def _renamed(state_dict: Mapping[str, Tensor], rules: Renaming) -> dict[str, Tensor]:
    pairs = ((renamed(name, rules), tensor) for name, tensor in state_dict.items())
    return {name: tensor for name, tensor in pairs if name is not None}


def _without_spare(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the auxiliary classifiers' tensors where the network has none."""
    if len(getattr(network, "auxiliary", ())):
        return weights
    return {name: tensor for name, tensor in weights.items() if not name.startswith("auxiliary.")}
