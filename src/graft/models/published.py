"""Weights that another library publishes, for our own networks: by the names on the network's card."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from graft.errors import BadModel, UsageError, shown
from graft.models.card import Card, Library, Published
from graft.models.names import Renaming, renamed

LISTED = 4  # names of each kind that an error shows
COUNTER = "num_batches_tracked"  # batch norm's count of batches: of no effect, and absent from weights of before 2018


def load_published(
    network: nn.Module, card: Card, state_dict: Mapping[str, Tensor], *, library: Library | None = None
) -> None:
    """Copy published weights into `network`, in place.

    card: the network's own. state_dict: tensors under the names of `library` (the first on the card if None). Tensors
    of auxiliary classifiers are left out where the network has none.
    Raises UsageError when the card names no such weights, BadModel with the differences when they do not fit.
    """
    weights = _without_spare(network, _renamed(state_dict, _published(card, library).names))
    found = differences(network, weights)
    if found:
        raise BadModel(f"these weights do not fit {card.name}: {found}; take those of the network on its card")
    network.load_state_dict(weights, strict=False)


def in_our_names(network: nn.Module, card: Card, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under our names, whosever names they have: ours, or those of a library on the card.

    network: the card's own, for its names. Whichever reading gives most of them is taken; whether all fit is for the
    loading to say.
    """
    needed = network.state_dict().keys()
    readings = [dict(state_dict), *(_renamed(state_dict, published.names) for published in card.published)]
    return _without_spare(network, max(readings, key=lambda weights: len(weights.keys() & needed)))


def differences(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What keeps `weights`, named as ours are, from loading: missing and extra tensors, other shapes; empty if nothing.

    The first few of each kind are named and the rest counted, on one line.
    """
    needed = network.state_dict()
    parts = [
        _listed("missing", [name for name in needed if name not in weights and not name.endswith(COUNTER)]),
        _listed("extra", [shown(name) for name in weights if name not in needed]),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(weights[name].shape)} for {tuple(tensor.shape)}"
                for name, tensor in needed.items()
                if name in weights and weights[name].shape != tensor.shape
            ],
        ),
    ]
    return "; ".join(part for part in parts if part)


def _renamed(state_dict: Mapping[str, Tensor], rules: Renaming) -> dict[str, Tensor]:
    pairs = ((renamed(name, rules), tensor) for name, tensor in state_dict.items())
    return {name: tensor for name, tensor in pairs if name is not None}


def _without_spare(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the auxiliary classifiers' tensors where the network has none."""
    if len(getattr(network, "auxiliary", ())):
        return weights
    return {name: tensor for name, tensor in weights.items() if not name.startswith("auxiliary.")}


def _listed(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)} {kind} ({', '.join(names[:LISTED])}{rest})"


def _published(card: Card, library: Library | None) -> Published:
    for published in card.published:
        if library in (None, published.library):
            return published
    known = ", ".join(f"{published.library}'s {published.model}" for published in card.published) or "none"
    raise UsageError(f"no weights of {library or 'any library'} are known to fit {card.name}; known: {known}")
