"""The decisions before the first step: what fits, and in which precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from graft.errors import GraftError
from graft.training.cpu import precision
from graft.training.cpu.precision import (
    activation_bytes,
    autocast,
    choose_batch,
    choose_precision,
    faster,
    halved_to_fit,
)
from graft.training.recipe.losses import cross_entropy


def test_bfloat16_must_gain_a_tenth() -> None:
    assert faster(1.11, 1.0) == "bfloat16"
    assert faster(1.09, 1.0) == "float32"
    assert faster(1.0, 2.0) == "float32"


def test_halving_keeps_to_the_share_of_memory() -> None:
    # 100 bytes a picture, 150 with what backward passes need; 0.8 of the memory may be used
    assert halved_to_fit(64, 100, 64 * 150 / 0.8) == 64
    assert halved_to_fit(64, 100, 64 * 150 / 0.8 - 1) == 32
    assert halved_to_fit(5, 100, 2 * 150 / 0.8) == 2  # 5, 3, 2
    assert halved_to_fit(64, 100, 0) == 1
    assert halved_to_fit(64, 100, math.inf) == 64


def test_activations_are_counted_by_hand() -> None:
    """A convolution keeps its input (N, 2, 4, 4), a ReLU its output (N, 3, 4, 4): 128 and 192 bytes a picture."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU())
    assert activation_bytes(network, torch.zeros(2, 2, 4, 4)) == 4 * (32 + 48)


class Greedy(nn.Module):
    """Takes no more than `limit` pictures, as a device that is out of memory would."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.layer, self.seen = limit, nn.Linear(4, 3), [0]

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return self.layer(x.flatten(1))


def prepared(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, 1, 2, 2), torch.zeros(count, dtype=torch.int64)


def test_a_batch_that_fails_is_halved_until_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "available_bytes", lambda _device: math.inf)
    assert choose_batch(Greedy(10), prepared, cross_entropy, 64, "cpu") == 8
    with pytest.raises(GraftError, match="one picture's forward and backward pass does not fit"):
        choose_batch(Greedy(0), prepared, cross_entropy, 1, "cpu")


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        choose_batch(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), prepared, cross_entropy, 4, "cpu")


def test_choosing_runs_both_and_leaves_the_network_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seconds = {"float32": 2.0, "bfloat16": 1.0}
    real, ran = precision._pass_seconds, []

    def timed(
        trial: nn.Module, x: Tensor, target: Tensor, loss: precision.Loss, device: str, kind: precision.Precision
    ) -> float:
        real(trial, x, target, loss, device, kind)
        ran.append(kind)
        return seconds[kind]

    monkeypatch.setattr(precision, "_pass_seconds", timed)
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: True)
    assert choose_precision(network, *prepared(4), cross_entropy, "cpu") == "bfloat16"
    assert ran.count("float32") == ran.count("bfloat16") == 4
    seconds["bfloat16"] = 3.0
    assert choose_precision(network, *prepared(4), cross_entropy, "cpu") == "float32"
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: False)
    ran.clear()
    assert choose_precision(network, *prepared(4), cross_entropy, "cpu") == "float32"
    assert not ran


def test_autocast_runs_convolutions_in_bfloat16_only_when_asked() -> None:
    layer = nn.Conv2d(1, 1, 1)
    with autocast("cpu", "bfloat16"):
        assert layer(torch.zeros(1, 1, 2, 2)).dtype == torch.bfloat16
    with autocast("cpu", "float32"):
        assert layer(torch.zeros(1, 1, 2, 2)).dtype == torch.float32


def test_free_memory_is_a_number_above_0() -> None:
    assert precision.available_bytes("cpu") > 2**20
