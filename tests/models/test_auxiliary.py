"""Auxiliary classifiers: their shapes, weight and gradients; and that a network predicts the same with or without."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.models.auxiliary import logits_with_auxiliary, total_loss
from graft.models.card import Card
from graft.models.catalog import CARDS, create
from models.drawn import draw_norms, draw_weights, drawn_pictures, on_meta

HAVING = [card for card in CARDS if card.auxiliary_parameters]


@pytest.mark.parametrize("card", HAVING, ids=[card.name for card in HAVING])
def test_parameters_equal_the_card(card: Card) -> None:
    network = on_meta(card, auxiliary=True)
    assert sum(p.numel() for p in network.auxiliary.parameters()) == card.auxiliary_parameters
    assert sum(p.numel() for p in network.parameters()) == card.parameters + card.auxiliary_parameters


def test_googlenet_s_auxiliary_count_by_hand() -> None:
    """§5: 1×1 to 128, 2048 → 1024, 1024 → 1000, on 512 and on 528 maps."""
    dense = 2048 * 1024 + 1024 + 1024 * 1000 + 1000
    assert 512 * 128 + 128 + 528 * 128 + 128 + 2 * dense == 6_379_728


@pytest.mark.parametrize("card", HAVING, ids=[card.name for card in HAVING])
def test_every_parameter_gets_a_gradient_and_prediction_needs_none_of_them(card: Card) -> None:
    network = on_meta(card, auxiliary=True).to_empty(device="cpu")
    draw_weights(network, seed=1)
    pictures = drawn_pictures((2, *card.input))
    draw_norms(network, pictures, seed=2)
    logits, auxiliary = logits_with_auxiliary(network, pictures)
    assert [extra.shape for extra in auxiliary] == [(2, 1000)] * len(network.auxiliary)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(pictures), rtol=0, atol=0)
    total_loss(nn.functional.cross_entropy, logits, auxiliary, torch.tensor([3, 5])).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_total_loss_by_hand() -> None:
    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits - targets).sum()

    one = torch.tensor([1.0])
    total = total_loss(loss, 3 * one, (5 * one, 11 * one), one)
    assert total.item() == pytest.approx(2 + 0.3 * 4 + 0.3 * 10)


def test_a_network_without_auxiliary_classifiers_is_refused() -> None:
    for name in ("lenet5", "googlenet"):
        with pytest.raises(UsageError, match=r"with auxiliary classifiers is needed, this \w+ has none; create it"):
            logits_with_auxiliary(create(name), torch.zeros(1, 3, 224, 224))
