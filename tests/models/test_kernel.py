"""A kernel's features in PyTorch against scikit-learn, and the room a network makes for them."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import normalize
from torch import nn

from graft.models.heads import KernelFeatures, with_kernel
from graft.models.network import Built, Network, head, trunk


def small() -> Built:
    """Maps (N, 3, 1, 1) → 5 features → 2 logits."""
    classifier = nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=nn.Linear(3, 5), linear=nn.Linear(5, 2)))
    network = Network(nn.Sequential(OrderedDict(stem=nn.Identity())), ("stem",), classifier)
    names = {name: name.removeprefix("classifier.") for name in network.state_dict()}
    return Built(network.eval(), names, 1, (0.5,) * 3, (0.5,) * 3, "bilinear")


def test_features_are_scikit_learns_on_rows_of_length_one() -> None:
    draw = np.random.default_rng(0)
    x, landmarks = draw.normal(size=(7, 5)), normalize(draw.normal(size=(4, 5)))
    module = KernelFeatures(torch.tensor(landmarks, dtype=torch.float32), 0.7)
    given = module(torch.tensor(x, dtype=torch.float32))
    np.testing.assert_allclose(given, rbf_kernel(normalize(x), landmarks, gamma=0.7), atol=1e-6)
    np.testing.assert_allclose(module(torch.zeros(1, 5)), np.exp(-1.4), atol=1e-6)
    assert not list(module.parameters())
    assert set(module.state_dict()) == {"landmarks", "gamma"}


def test_a_network_makes_room_before_its_last_layer() -> None:
    built = with_kernel(small(), 4, landmarks="head.landmarks", gamma="head.gamma")
    assert set(built.published) == set(built.network.state_dict())
    assert set(built.published.values()) == {
        "hidden.weight", "hidden.bias", "linear.weight", "linear.bias", "head.landmarks", "head.gamma",
    }  # fmt: skip
    assert head(built.network).weight.shape == (2, 4)
    draw = torch.Generator().manual_seed(0)
    landmarks = nn.functional.normalize(torch.randn(4, 5, generator=draw))
    state = {**built.network.state_dict(), "classifier.kernel.landmarks": landmarks}
    state["classifier.kernel.gamma"] = torch.tensor(0.5)
    built.network.load_state_dict(state)
    x = torch.randn(6, 3, 1, 1, generator=draw)
    with torch.inference_mode():
        features = (x.flatten(1) @ state["classifier.hidden.weight"].T + state["classifier.hidden.bias"]).numpy()
        likeness = rbf_kernel(normalize(features), landmarks.numpy(), gamma=0.5)
        np.testing.assert_allclose(trunk(built.network)(x), likeness, atol=1e-6)
        last = head(built.network)
        np.testing.assert_allclose(built.network(x), likeness @ last.weight.numpy().T + last.bias.numpy(), atol=1e-6)
