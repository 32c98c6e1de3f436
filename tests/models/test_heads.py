"""Heads that a network did not come with: what they read, worked out stage by stage, and their tensors' names."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import normalize
from torch import nn

from graft.errors import BadModel, UsageError
from graft.models.catalog import create
from graft.models.heads import KernelFeatures, with_head
from graft.models.names import GAMMA, LANDMARKS
from graft.models.network import Built, Network, StageFeatures, cut, head, outputs, stage_names, trunk
from models.drawn import draw_norms, drawn_pictures

WIDTHS = {"conv1": 16, "conv2_x": 16, "conv3_x": 32, "conv4_x": 64, "features": 64}
X = drawn_pictures((2, 3, 32, 32))


def built() -> Built:
    network = create("resnet20_cifar", num_classes=3, seed=0)
    draw_norms(network, drawn_pictures((8, 3, 32, 32)), seed=1)
    names = {name: f"theirs.{name}" for name in network.state_dict()}
    return Built(network, names, 32, (0.5,) * 3, (0.5,) * 3, "bilinear")


def headed(whole: Built, reads: tuple[str, ...], kind: str = "logistic", landmarks: int = 0) -> Built:
    """A head on some outputs, with room for as many landmarks behind them."""
    width = sum(WIDTHS[name] for name in reads)
    tensors = {"fc.weight": torch.zeros(3, landmarks or width)}
    if landmarks:
        tensors[LANDMARKS] = torch.zeros(landmarks, width)
    return with_head(whole, kind, reads, tensors, layer="fc", file="the file")


def maps(network: nn.Module) -> dict[str, torch.Tensor]:
    """(N, C, h, w) of each stage by hand."""
    found, x = {}, X
    for name, stage in network.stages.named_children():  # type: ignore[union-attr]
        x = found[name] = stage(x)
    return found


def averages(network: nn.Module) -> dict[str, torch.Tensor]:
    """(N, width) of each output by hand."""
    found = {name: x.mean(dim=(2, 3)) for name, x in maps(network).items()}
    return {**found, "features": found["conv4_x"]}


def test_every_stage_s_average_and_then_the_features() -> None:
    network = built().network
    with torch.inference_mode():
        expected = torch.cat(list(averages(network).values()), dim=1)
        torch.testing.assert_close(StageFeatures(network)(X), expected, rtol=1e-5, atol=1e-5)
    assert StageFeatures(network).widths(X) == tuple(WIDTHS.values())


@pytest.mark.parametrize("reads", [("features",), ("conv3_x",), ("conv1", "conv4_x"), ("conv2_x", "features")])
@pytest.mark.parametrize("landmarks", [0, 5])
def test_a_head_reads_the_chosen_outputs_side_by_side(reads: tuple[str, ...], landmarks: int) -> None:
    whole = built()
    with torch.inference_mode():
        expected = torch.cat([averages(whole.network)[name] for name in reads], dim=1)
    network = headed(whole, reads, "rbf" if landmarks else "lda", landmarks).network
    with torch.inference_mode():
        if landmarks:
            (kernel,) = (module for module in network.modules() if isinstance(module, KernelFeatures))
            kernel.landmarks.copy_(nn.functional.normalize(torch.randn(kernel.landmarks.shape)))
            expected = kernel(expected)
        torch.testing.assert_close(network(X), head(network)(expected), rtol=1e-5, atol=1e-5)
    assert not network.training


@pytest.mark.parametrize("reads", [("features",), ("conv1", "conv3_x"), ("conv2_x", "features")])
def test_a_network_with_another_head_keeps_its_stages_and_hands_out_their_maps(reads: tuple[str, ...]) -> None:
    whole = built()
    expected = maps(whole.network)
    network = headed(whole, reads).network
    assert stage_names(network) == ("conv1", "conv2_x", "conv3_x", "conv4_x")
    with torch.inference_mode():
        found = outputs(network, X, (*expected, "features", "logits"))
        assert list(found) == [*expected, "features", "logits"]
        for name, given in expected.items():
            assert torch.equal(found[name], given)
        torch.testing.assert_close(found["features"], expected["conv4_x"].mean(dim=(2, 3)))
        torch.testing.assert_close(found["logits"], network(X))


def test_outputs_stop_at_the_highest_that_is_asked_for() -> None:
    network = built().network
    ran: list[str] = []
    handles = [
        network.stages.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))  # type: ignore
        for name in stage_names(network)
    ]
    assert list(outputs(network, X, ("conv2_x",))) == ["conv2_x"]
    assert ran == ["conv1", "conv2_x"]
    for handle in handles:
        handle.remove()


def test_an_output_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"^no output 'conv5_x' of this network, .*did you mean[^\n]*$"):
        outputs(built().network, X, ("conv5_x",))


def test_a_network_with_a_head_on_several_stages_is_cut_below_what_it_reads_only() -> None:
    network = headed(built(), ("conv3_x", "features")).network
    lower, upper = cut(network, "conv3_x")
    with torch.inference_mode():
        torch.testing.assert_close(upper(lower(X)), network(X))
    with pytest.raises(UsageError, match="the head reads the stage 'conv3_x', which lies below this cut"):
        cut(network, "conv4_x")


def test_a_network_with_a_head_of_its_own_is_still_a_trunk_for_another() -> None:
    whole = built()
    other = headed(whole, ("conv3_x", "features")).network
    with torch.inference_mode():
        torch.testing.assert_close(trunk(other)(X), trunk(whole.network)(X))
        torch.testing.assert_close(StageFeatures(other)(X), StageFeatures(whole.network)(X))


def test_every_tensor_keeps_its_published_name() -> None:
    whole = built()
    names, before = set(whole.published.values()), dict(whole.network.state_dict())
    other = headed(whole, ("conv3_x",), "rbf", 7)
    assert set(other.published) == set(other.network.state_dict())
    assert set(other.published.values()) == names | {LANDMARKS, GAMMA}
    state = other.network.state_dict()
    for ours, theirs in other.published.items():
        if "classifier" not in theirs and not theirs.startswith("head."):
            assert torch.equal(state[ours], before[theirs.removeprefix("theirs.")])
    assert head(other.network).weight.shape == (3, 7)


def test_what_the_network_does_not_have_or_the_file_lacks_is_one_line() -> None:
    with pytest.raises(BadModel, match=r"^the head reads 'conv5_x', .*did you mean[^\n]*$"):
        with_head(built(), "lda", ("conv3_x", "conv5_x"), {"fc.weight": torch.zeros(3, 9)}, layer="fc", file="it")
    with pytest.raises(BadModel, match=r"^it needs a matrix fc\.weight, its last layer, and holds none[^\n]*$"):
        with_head(built(), "lda", ("conv3_x",), {}, layer="fc", file="it")


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
    built = with_head(small(), "rbf", ("features",), {LANDMARKS: torch.zeros(4, 5)}, layer="linear", file="the file")
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
        values = rbf_kernel(normalize(features), landmarks.numpy(), gamma=0.5)
        np.testing.assert_allclose(trunk(built.network)(x), values, atol=1e-6)
        last = head(built.network)
        np.testing.assert_allclose(built.network(x), values @ last.weight.numpy().T + last.bias.numpy(), atol=1e-6)
