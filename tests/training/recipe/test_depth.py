"""Rates and unfreezing by depth: rules by hand, and runs of the loop with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.training.loop.history import Event
from graft.training.recipe.depth import Unfreezing
from graft.training.recipe.optimizers import parameter_groups
from graft.training.recipe.settings import Recipe
from training.small_runs import KILLED, SETTINGS, bars, same_bits, small_network, train

DEPTHS = {
    "0.weight": 2, "0.bias": 2, "1.weight": 2, "1.bias": 2, "4.weight": 1, "4.bias": 1, "9.weight": 0, "9.bias": 0,
}  # fmt: skip
FINE = replace(SETTINGS, layer_decay=0.5, head_epochs=1.0, unfreeze="gradual", frozen_statistics=True, epochs=4)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_groups_have_a_scale_for_each_depth() -> None:
    network = small_network()
    groups = parameter_groups(network, 0.1, depths=DEPTHS, layer_decay=0.5)
    assert [(group["scale"], group["weight_decay"], len(group["params"])) for group in groups] == [
        (1.0, 0.1, 1), (1.0, 0.0, 1), (0.5, 0.1, 1), (0.5, 0.0, 1), (0.25, 0.1, 1), (0.25, 0.0, 3),
    ]  # fmt: skip
    assert groups[4]["params"][0] is network[0].weight
    assert [group["scale"] for group in parameter_groups(network, 0.1)] == [1.0, 1.0]


def test_stages_join_in_equal_parts_of_the_first_half() -> None:
    depths = {"head": 0, "top": 1, "middle": 2, "bottom": 3}
    stages = Unfreezing(depths, head_steps=4, steps=20, gradual=True)
    assert [stages.reach(step) for step in range(12)] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert [replace(stages, gradual=False).reach(step) for step in (3, 4, 19)] == [0, 3, 3]
    assert [replace(stages, head_steps=0).reach(step) for step in (0, 3, 4, 6, 7, 19)] == [1, 1, 2, 2, 3, 3]
    assert [replace(stages, head_steps=12).reach(step) for step in (11, 12)] == [0, 3]
    assert replace(stages, head_steps=20).reach(19) == 0


def test_one_step_of_plain_sgd_is_scaled_by_depth(tmp_path: Path) -> None:
    """w ← w − ε · 0.5^depth ∇, against the gradient of the same loss by torch alone."""
    network, twin = (small_network(batch_norm=False, dropout=0.0) for _ in range(2))
    settings = Recipe(
        strategy="scratch",
        epochs=1, batch=40, optimizer="sgd", rate=0.5, schedule="constant", weight_decay=0.0, augment="none",
        precision="float32", layer_decay=0.5,
    )  # fmt: skip
    pictures = bars(40)
    state = train(tmp_path, settings, network=network, pictures=(pictures, None), depths=DEPTHS).state
    x = torch.from_numpy(pictures.read(np.arange(40)).astype(np.float32) / 255).permute(0, 3, 1, 2)
    x = (x - x.mean()) / x.std(correction=0)
    torch.autograd.backward(nn.functional.cross_entropy(twin(x), torch.from_numpy(pictures.labels)))
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        expected = parameter.detach() - 0.5 * 0.5 ** DEPTHS[name] * parameter.grad
        torch.testing.assert_close(state[name], expected, rtol=1e-4, atol=1e-6, msg=name)


def test_the_head_trains_alone_and_then_stages_join_from_the_top(tmp_path: Path) -> None:
    """Which parameters have moved, as of the last step of each of 26: the head in 13, then a stage, then another."""
    network = small_network()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    moved: dict[int, set[str]] = {}

    def watch(event: Event) -> None:
        if event.kind == "step":
            now = network.state_dict()
            moved[event.step] = {name for name, tensor in now.items() if not torch.equal(tensor, start[name])}

    settings = replace(SETTINGS, epochs=4, head_epochs=1.0, unfreeze="gradual")  # 52 steps: the half is at 26
    train(tmp_path, settings, network=network, depths=DEPTHS, watch=watch)
    head, top = {"9.weight", "9.bias"}, {"4.weight", "4.bias"}
    bottom = set(start) - head - top  # batch norm's statistics too
    shifts = {"0.bias"}  # the batch norm behind it takes them off: no gradient but rounding
    assert moved[13] == head
    assert moved[14] == moved[19] == head | top
    assert moved[21] | shifts == head | top | bottom
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_is_frozen_by_the_caller_stays_frozen_with_its_statistics(tmp_path: Path) -> None:
    network = small_network()
    network[:4].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network[:4].state_dict().items()}
    train(tmp_path, replace(SETTINGS, epochs=1), network=network)
    assert same_bits(network[:4].state_dict(), before)
    assert [parameter.requires_grad for parameter in network.parameters()] == [False] * 4 + [True] * 4


def test_frozen_statistics_stay_and_scales_and_shifts_train(tmp_path: Path) -> None:
    network = small_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train(tmp_path, replace(SETTINGS, epochs=1, frozen_statistics=True), network=network)
    after = network.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert type(network[0]) is nn.Conv2d
    assert not network[1]._forward_pre_hooks


class Stopped(Exception):
    """The run is to end here, as if it had been killed."""


@pytest.mark.parametrize("optimizer", ["nesterov", "adamw"])
def test_a_run_by_depth_resumes_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    """Stopped while the head trains alone, when one stage has joined, and when all have."""
    settings = replace(
        KILLED, optimizer=optimizer, rate=0.01, epochs=4, layer_decay=0.5, head_epochs=0.5, unfreeze="gradual",
        frozen_statistics=True,
    )  # fmt: skip

    def stop_at(step: int) -> object:
        def watch(event: Event) -> None:
            if event.kind == "step" and event.step == step:
                raise Stopped

        return watch

    whole = train(tmp_path / "whole", settings, depths=DEPTHS)
    for step in (2, 6, 12, 20):
        with pytest.raises(Stopped):
            train(
                tmp_path / "parts", settings, depths=DEPTHS, resume=step > 2, watch=stop_at(step),
                checkpoint_seconds=0.0,
            )  # fmt: skip
    parts = train(tmp_path / "parts", settings, depths=DEPTHS, resume=True)
    assert same_bits(parts.state, whole.state)


def test_a_rule_of_1_at_once_changes_no_bit(tmp_path: Path) -> None:
    """Depths alone, without a setting that goes by them: the groups are others, the numbers the same."""
    plain = train(tmp_path / "plain", SETTINGS).state
    assert same_bits(train(tmp_path / "depths", SETTINGS, depths=DEPTHS).state, plain)


def test_depths_that_are_missing_or_anothers_are_refused(tmp_path: Path) -> None:
    for settings in (
        replace(SETTINGS, layer_decay=0.5), replace(SETTINGS, head_epochs=1.0), replace(SETTINGS, unfreeze="gradual"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="go by the stages of a pretrained network, got a run without"):
            train(tmp_path, settings)
    with pytest.raises(UsageError, match=r"depths must name every parameter that trains, 0.weight is missing"):
        train(tmp_path, FINE, depths={"9.weight": 0})
    network = small_network()
    network[9].requires_grad_(False)
    with pytest.raises(UsageError, match="the head must train"):
        train(tmp_path, FINE, depths=DEPTHS, network=network)
    assert not tmp_path.joinpath("history.jsonl").exists()
