"""The two-layer network of the playground: by hand, and what size and λ do to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from graft.lessons.playground.points import corner, spiral
from graft.lessons.playground.two_layer import Trained, TwoLayer, train_two_layer, weight_norm

POINTS = spiral(60, noise=0.15, seed=0)


def test_a_network_by_hand() -> None:
    """x = (1, 2): W₁x + b₁ = (1 − 2 + 0.5, 3) = (−0.5, 3), rectified (0, 3); scores (3 + 1, 2·0 − 3) = (4, −3)."""
    network = TwoLayer(2, classes=2, rectified=True, seed=0)
    with torch.no_grad():
        network.first.weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        network.first.bias.copy_(torch.tensor([0.5, 0.0]))
        network.second.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, -1.0]]))
        network.second.bias.copy_(torch.tensor([1.0, 0.0]))
    trained = Trained(network, accuracy=0, weight_norm=0)
    x = np.array([[1.0, 2.0]])
    assert trained.features_at(x).tolist() == [[0, 3]]
    assert network(torch.from_numpy(x)).tolist() == [[4, -3]]
    assert trained.classes_at(x).tolist() == [0]
    assert trained.classes_of(np.array([[3.0, 1.0]])).tolist() == [1]  # scores (2, 5)
    assert weight_norm(network).item() == 4 + 6
    network.rectified = False
    assert trained.features_at(x).tolist() == [[-0.5, 3]]


def test_more_hidden_units_get_more_points_right() -> None:
    few, some, many = (train_two_layer(POINTS, hidden=hidden).accuracy for hidden in (3, 6, 20))
    assert few + 0.02 < some <= many
    assert few < 0.93
    assert many > 0.98


def test_the_weights_shrink_as_lambda_grows() -> None:
    norms = [
        train_two_layer(POINTS, hidden=20, strength=strength, steps=500).weight_norm
        for strength in (0.0, 0.001, 0.01, 0.1)
    ]
    assert all(after < 0.7 * before for before, after in pairwise(norms))


def test_at_the_minimum_the_loss_pulls_as_hard_as_lambda() -> None:
    """Where the gradient of L + λ‖W‖² is zero, ∂L/∂W = −2λW."""
    trained = train_two_layer(POINTS, hidden=3, strength=0.05, steps=3000)
    network = trained.network
    network.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(POINTS.x)), torch.from_numpy(POINTS.y))
    torch.autograd.backward(loss)
    assert trained.weight_norm > 0.1
    for weight in (network.first.weight, network.second.weight):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, -2 * 0.05 * weight.detach(), atol=2e-4, rtol=0)


def test_without_rectifier_two_layers_are_one() -> None:
    points = corner(60, gap=0.3, seed=0)
    straight = train_two_layer(points, hidden=2, rectified=False, strength=0.001)
    folded = train_two_layer(points, hidden=2, strength=0.001)
    network = straight.network
    with torch.no_grad():
        weight = network.second.weight @ network.first.weight
        bias = network.second.weight @ network.first.bias + network.second.bias
        scores = torch.from_numpy(points.x) @ weight.T + bias
    np.testing.assert_array_equal(straight.classes_at(points.x), scores.argmax(dim=1).numpy())
    assert straight.accuracy < 0.95 < folded.accuracy


def test_the_second_layer_parts_the_features_as_the_network_parts_the_plane() -> None:
    trained = train_two_layer(POINTS, hidden=6, steps=20)
    features = trained.features_at(POINTS.x)
    assert (features >= 0).all()
    np.testing.assert_array_equal(trained.classes_of(features), trained.classes_at(POINTS.x))


def test_training_twice_gives_the_same_bits() -> None:
    first, again, other = (train_two_layer(POINTS, hidden=4, steps=30, seed=seed).network for seed in (1, 1, 2))
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert not torch.equal(first.first.weight, other.first.weight)
