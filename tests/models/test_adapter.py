"""timm's CNNs as stages and classifier: each must be the network that timm runs, under timm's own names."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from graft.errors import UsageError
from graft.models.adapter import adapt
from graft.models.network import CLASSIFIER, Built, cut, head, stage_names, trunk

NETWORKS = [
    "tf_efficientnet_lite0", "mobilenetv3_small_050", "lcnet_050", "mnasnet_small", "resnet18", "resnetv2_18",
    "regnetx_002", "repvgg_a0", "convnext_atto", "ghostnet_050",
    "test_byobnet", "test_nfnet",
]  # fmt: skip


def randomised(network: nn.Module, seed: int = 0) -> None:
    """Batch-norm statistics and scales as after training: zeros at the end of a branch would hide a wrong branch."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.weight, 0.5, 1.5), (module.bias, -0.2, 0.2),
                    (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5),
                ):  # fmt: skip
                    assert tensor is not None
                    tensor.uniform_(low, high, generator=draw)


def pictures(count: int = 2) -> Tensor:
    """Small ones, for speed: the adapter itself compares at the network's own size."""
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[str, Built]:
    adapted = adapt(request.param, num_classes=7)
    randomised(adapted.network)
    return request.param, adapted


def test_weights_by_published_names_give_the_same_output_in_timm_itself(case: tuple[str, Built]) -> None:
    name, adapted = case
    state = adapted.network.state_dict()
    theirs = timm.create_model(name, num_classes=7).eval()
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert sorted(adapted.published) == sorted(state)
    assert sorted(adapted.published.values()) == sorted(shapes)
    theirs.load_state_dict({adapted.published[n]: t.reshape(shapes[adapted.published[n]]) for n, t in state.items()})
    with torch.inference_mode():
        expected, given = theirs(pictures()), adapted.network(pictures())
    assert given.shape == (2, 7)
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_cut_at_every_stage_composes_to_the_whole(case: tuple[str, Built]) -> None:
    _, adapted = case
    x = pictures(1)
    names = stage_names(adapted.network)
    with torch.inference_mode():
        whole = adapted.network(x)
        below = x
        for stage in (*names, CLASSIFIER):
            lower, upper = cut(adapted.network, stage)
            assert torch.equal(lower(x), below)
            assert torch.equal(upper(below), whole)
            if stage != CLASSIFIER:
                below = adapted.network.stages.get_submodule(stage)(below)  # type: ignore[operator]
                assert below.ndim == 4
        features = trunk(adapted.network)(x)
        assert features.shape == (1, head(adapted.network).in_features)
        assert torch.equal(head(adapted.network)(features), whole)


def test_a_cut_copies_no_weight_and_loses_none(case: tuple[str, Built]) -> None:
    _, adapted = case
    every = {id(p) for p in adapted.network.parameters()}
    middle = stage_names(adapted.network)[len(stage_names(adapted.network)) // 2]
    lower, upper = cut(adapted.network, middle)
    ours, theirs = {id(p) for p in lower.parameters()}, {id(p) for p in upper.parameters()}
    assert ours | theirs == every
    assert not ours & theirs


def test_lite0_has_the_papers_stages_and_timms_preprocessing() -> None:
    adapted = adapt("tf_efficientnet_lite0")
    assert stage_names(adapted.network) == ("stem", *(f"blocks.{i}" for i in range(7)), "conv_head")
    assert (adapted.size, adapted.mean, adapted.std) == (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert adapted.interpolation == "bicubic"
    assert sum(p.numel() for p in adapted.network.parameters()) == 4_652_008  # timm's results table: 4.65 M
    assert head(adapted.network).weight.shape == (1000, 1280)
    assert not adapted.network.training


def test_known_stages_of_other_families() -> None:
    assert stage_names(adapt("resnet18").network) == ("stem", "layer1", "layer2", "layer3", "layer4")
    stages = stage_names(adapt("convnext_atto").network)
    assert [name for name in stages if name.startswith("stages")] == [f"stages.{i}" for i in range(4)]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224"])
def test_networks_without_maps_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"timm:{name} does not end in maps .*choose a convolutional network"):
        adapt(name)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="timm has no network 'resnet81'; did you mean 'resnet18'"):
        adapt("resnet81")
