"""A head on the rungs of a ladder: the averages it stands on, worked out stage by stage, and its tensors' names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graft.errors import BadModel
from graft.models.catalog import create
from graft.models.heads import with_rungs
from graft.models.network import Built, Ladder, head
from models.drawn import draw_norms, drawn_pictures

WIDTHS = {"conv1": 16, "conv2_x": 16, "conv3_x": 32, "conv4_x": 64, "features": 64}
X = drawn_pictures((2, 3, 32, 32))


def built() -> Built:
    network = create("resnet20_cifar", num_classes=3, seed=0)
    draw_norms(network, drawn_pictures((8, 3, 32, 32)), seed=1)
    names = {name: f"theirs.{name}" for name in network.state_dict()}
    return Built(network, names, 32, (0.5,) * 3, (0.5,) * 3, "bilinear")


def averages(network: nn.Module) -> dict[str, torch.Tensor]:
    """(N, width) of each rung by hand."""
    found, x = {}, X
    for name, stage in network.stages.named_children():  # type: ignore[union-attr]
        x = stage(x)
        found[name] = x.mean(dim=(2, 3))
    return {**found, "features": x.mean(dim=(2, 3))}


def test_a_ladder_has_every_stage_s_average_and_then_the_features() -> None:
    network = built().network
    with torch.inference_mode():
        expected = torch.cat(list(averages(network).values()), dim=1)
        torch.testing.assert_close(Ladder(network)(X), expected, rtol=1e-5, atol=1e-5)
    assert Ladder(network).widths(X) == tuple(WIDTHS.values())


@pytest.mark.parametrize("rungs", [("conv3_x",), ("conv1", "conv4_x"), ("conv2_x", "features")])
def test_the_head_stands_on_the_chosen_rungs_side_by_side(rungs: tuple[str, ...]) -> None:
    whole = built()
    with torch.inference_mode():
        by_name = averages(whole.network)
        expected = torch.cat([by_name[name] for name in rungs], dim=1)
    grown = with_rungs(whole, rungs, sum(WIDTHS[name] for name in rungs))
    linear = head(grown.network)
    with torch.inference_mode():
        torch.testing.assert_close(grown.network(X), linear(expected), rtol=1e-5, atol=1e-5)
    assert not grown.network.training


def test_every_tensor_keeps_its_published_name() -> None:
    whole = built()
    names, before = set(whole.published.values()), dict(whole.network.state_dict())
    grown = with_rungs(whole, ("conv3_x",), 32)
    assert set(grown.published) == set(grown.network.state_dict())
    assert set(grown.published.values()) == names
    state = grown.network.state_dict()
    for ours, theirs in grown.published.items():
        if "classifier" not in theirs:
            assert torch.equal(state[ours], before[theirs.removeprefix("theirs.")])
    assert head(grown.network).weight.shape == (3, 32)


def test_a_rung_that_is_not_there_is_one_line() -> None:
    with pytest.raises(BadModel, match=r"^the head stands on 'conv5_x', .*did you mean[^\n]*$"):
        with_rungs(built(), ("conv3_x", "conv5_x"), 32)
