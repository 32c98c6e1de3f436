"""The moving average of weights, against the recurrence written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graft.training.loop.average import effective_decay, moving_average


def test_decay_is_short_in_the_beginning() -> None:
    assert effective_decay(0.99, 1) == pytest.approx(2 / 11)
    assert effective_decay(0.99, 90) == pytest.approx(0.91)
    assert effective_decay(0.99, 10_000) == 0.99


def test_average_is_the_recurrence_over_weights_and_statistics() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = moving_average(network, 0.5)
    expected = {name: tensor.clone().double() for name, tensor in network.state_dict().items()}
    for update in range(6):
        network(torch.randn(8, 3))  # moves the statistics
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update_parameters(network)
        decay = 0.0 if update == 0 else min(0.5, (1 + update) / (10 + update))
        for name, tensor in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    found = average.module.state_dict()
    assert int(found.pop("1.num_batches_tracked")) == 6
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
