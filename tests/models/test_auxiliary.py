"""Auxiliary classifiers: their shapes, weight and gradients; and that a network predicts the same with or without."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.models.auxiliary import WithAuxiliary, logits_with_auxiliary, total_loss, trained_form
from graft.models.card import Card
from graft.models.catalog import CARDS, create
from graft.models.fresh import fresh, plan
from graft.training.loop.fit import fit
from graft.training.loop.history import read_history
from graft.training.recipe.normalize import channel_statistics
from graft.training.recipe.settings import Recipe
from models.drawn import draw_norms, draw_weights, drawn_pictures, on_meta
from training.small_runs import bars

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


class Small(nn.Module):
    """Two stages and a classifier, with an auxiliary classifier on the first stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 4, 3), second=nn.Conv2d(4, 4, 3)))
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self.auxiliary = nn.ModuleDict({"first": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.stages(x))  # type: ignore[no-any-return]


def test_the_loop_minimises_the_sum_and_judges_by_the_networks_own_logits(tmp_path: Path) -> None:
    """One step of plain gradient descent, by hand; the accuracy and loss of the history are the network's own."""
    torch.manual_seed(0)
    network = Small()
    before = copy.deepcopy(network)
    pictures = bars(24)
    norm = channel_statistics(pictures)
    recipe = Recipe(
        strategy="scratch", epochs=1, batch=24, optimizer="sgd", rate=0.1, weight_decay=0.0, schedule="constant",
        augment="none", precision="float32", keep="last",
    )  # fmt: skip
    fit(trained_form(network), pictures, pictures, recipe, normalization=norm, folder=tmp_path)

    x = norm.normalize(torch.from_numpy(pictures.read(np.arange(24))).permute(0, 3, 1, 2).float() / 255)
    labels = torch.from_numpy(pictures.labels)
    logits, auxiliary = logits_with_auxiliary(before, x)
    own, other = (nn.functional.cross_entropy(scores, labels) for scores in (logits, *auxiliary))
    (own + 0.3 * other).backward()
    for new, old in zip(network.parameters(), before.parameters(), strict=True):
        assert old.grad is not None
        torch.testing.assert_close(new, old - 0.1 * old.grad, rtol=1e-4, atol=1e-6)
    epoch = read_history(tmp_path).epochs[0]
    assert epoch.train.accuracy == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert epoch.val is not None
    with torch.inference_mode():
        assert epoch.val.loss == pytest.approx(float(nn.functional.cross_entropy(network.eval()(x), labels)), rel=1e-5)


def test_a_network_to_train_has_them_at_its_papers_size_and_its_model_has_not() -> None:
    network, kept = fresh(plan("googlenet"), num_classes=5, seed=0)
    assert set(network.auxiliary) == {"inception4a", "inception4d"}  # type: ignore[arg-type]
    assert {name.split(".")[0] for name in network.state_dict()} - {name.split(".")[0] for name in kept} == {
        "auxiliary"
    }
    assert isinstance(trained_form(network), WithAuxiliary)
    smaller, _ = fresh(plan("googlenet", side=96), num_classes=5, seed=0)
    assert trained_form(smaller) is smaller
