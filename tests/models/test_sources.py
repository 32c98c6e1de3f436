"""Our own networks as something to grow a head on: whose weights they take, by whose names, and who is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from graft.errors import BadModel, UsageError
from graft.models.build import bare, build
from graft.models.card import Card
from graft.models.catalog import CARDS, find
from graft.models.network import head, trunk
from graft.models.weights import find_source
from models.drawn import draw_norms, drawn_pictures

FOR_PHOTOS = [card for card in CARDS if card.classes == 1000]  # ImageNet's
PICTURES = drawn_pictures((2, 3, 75, 75))


def saved(network: nn.Module, file: Path) -> Path:
    torch.save(network.state_dict(), file)
    return file


def drawn_resnet18(num_classes: int = 1000) -> nn.Module:
    """torchvision's own, with weights and batch norm statistics of no special value, in eval mode."""
    network = models.resnet18(num_classes=num_classes)
    draw_norms(network, PICTURES, seed=6)
    return network


def close(ours: nn.Module, theirs: nn.Module) -> bool:
    with torch.inference_mode():
        expected, given = theirs(PICTURES), ours(PICTURES)
    return bool((given - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return drawn_resnet18()


def test_torchvision_s_weights_give_torchvision_s_logits(resnet18: nn.Module, tmp_path: Path) -> None:
    source = find_source("resnet18", saved(resnet18, tmp_path / "weights.pt"))
    assert (source.builder, source.architecture) == ("graft", "resnet18")
    built = build(source)
    assert close(built.network, resnet18)
    assert not built.network.training
    assert (built.size, built.mean, built.std) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_timm_s_weights_give_timm_s_logits(tmp_path: Path) -> None:
    theirs = timm.create_model("mobilenetv1_100", num_classes=11)
    draw_norms(theirs, PICTURES, seed=6)
    built = build(find_source("mobilenet", saved(theirs, tmp_path / "weights.pt")))
    assert close(built.network, theirs)
    assert (built.mean, built.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # as timm.data.resolve_data_config has it


def test_weights_under_our_own_names_load_again(resnet18: nn.Module, tmp_path: Path) -> None:
    ours = build(find_source("resnet18", saved(resnet18, tmp_path / "theirs.pt"))).network
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    again = build(find_source("resnet18", tmp_path / "ours.safetensors"))
    assert close(again.network, resnet18)
    assert all(ours == name for ours, name in again.published.items())


def test_the_last_layer_has_the_classes_of_the_weights(tmp_path: Path) -> None:
    theirs = drawn_resnet18(num_classes=7)
    built = build(find_source("resnet18", saved(theirs, tmp_path / "weights.pt")))
    assert head(built.network).out_features == 7
    assert close(built.network, theirs)


def test_old_weights_without_counters_leave_no_memory_unset(resnet18: nn.Module, tmp_path: Path) -> None:
    state = {name: t for name, t in resnet18.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pt")
    network = build(find_source("resnet18", tmp_path / "weights.pt")).network
    assert close(network, resnet18)
    counters = [t for name, t in network.state_dict().items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 20
    assert not any(counters)


def test_the_features_of_alexnet_are_those_of_fc7(tmp_path: Path) -> None:
    theirs = models.alexnet().eval()
    ours = trunk(build(find_source("alexnet", saved(theirs, tmp_path / "weights.pt"))).network)
    with torch.inference_mode():
        maps = theirs.avgpool(theirs.features(PICTURES))  # (2, 256, 6, 6)
        expected = theirs.classifier[:-1](maps.flatten(1))  # (2, 4096)
        given = ours(PICTURES)
    assert given.shape == (2, 4096)
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_weights_of_another_network_are_refused_in_one_line(resnet18: nn.Module, tmp_path: Path) -> None:
    file = saved(resnet18, tmp_path / "weights.pt")
    with pytest.raises(BadModel, match=r"weights\.pt does not fit the network: .* missing \(stages\.conv2_x") as caught:
        build(find_source("resnet34", file))
    assert "\n" not in str(caught.value)


def test_a_tensor_whose_axes_stand_in_another_order_is_refused(resnet18: nn.Module, tmp_path: Path) -> None:
    state: dict[str, Tensor] = dict(resnet18.state_dict())
    state["conv1.weight"] = state["conv1.weight"].permute(2, 3, 1, 0).contiguous()  # as TensorFlow keeps it
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(BadModel, match=r"conv1\.conv\.weight is \(7, 7, 3, 64\) and should be \(64, 3, 7, 7\)"):
        build(find_source("resnet18", tmp_path / "weights.pt"))


def test_without_a_file_torchvision_s_own_download_is_taken(
    resnet18: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def get_model(name: str, *, weights: str, progress: bool) -> nn.Module:
        assert not progress
        asked.append((name, weights))
        return resnet18

    monkeypatch.setattr(models, "get_model", get_model)
    assert close(build(find_source("resnet18")).network, resnet18)
    assert asked == [("resnet18", "DEFAULT")]


def test_where_only_timm_publishes_weights_timm_s_download_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = timm.create_model("mobilenetv1_100")
    draw_norms(theirs, PICTURES, seed=6)
    asked: list[tuple[str, bool]] = []

    def create_model(name: str, *, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return theirs

    monkeypatch.setattr(timm, "create_model", create_model)
    assert close(build(find_source("mobilenet")).network, theirs)
    assert asked == [("mobilenetv1_100", True)]


def test_a_download_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_model(*_: Any, **__: Any) -> nn.Module:
        raise OSError("no route\nto the host")

    monkeypatch.setattr(models, "get_model", get_model)
    with pytest.raises(
        BadModel, match=r"weights of resnet18 could not be downloaded \(no route\); give --weights FILE"
    ):
        build(find_source("resnet18"))


def test_our_name_means_ours_and_timm_s_prefix_timm_s(resnet18: nn.Module, tmp_path: Path) -> None:
    file = saved(resnet18, tmp_path / "weights.pt")
    ours, theirs = find_source("resnet18", file), find_source("timm:resnet18", file)
    assert (ours.builder, theirs.builder) == ("graft", "timm")
    assert ours.digest == theirs.digest
    assert find_source("resnet18").digest != find_source("resnet34").digest != ours.digest


@pytest.mark.parametrize("name", ["lenet5", "lecture_net", "alphago_policy", "resnet20_cifar", "plain56_cifar"])
def test_networks_of_no_use_for_photos_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    for weights in (None, tmp_path / "weights.pt"):
        with pytest.raises(UsageError, match=rf"{name} takes inputs of .* and is for training from scratch") as caught:
            find_source(name, weights)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("card", FOR_PHOTOS, ids=[card.name for card in FOR_PHOTOS])
def test_every_other_card_has_weights_or_asks_for_them(card: Card, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    assert find_source(card.name, tmp_path / "weights.pt").architecture == card.name
    if card.packaged:
        assert str(find_source(card.name).file).endswith(f"{card.packaged.package}/models/{card.packaged.file}")
    elif card.published:
        assert find_source(card.name).file is None
    else:
        with pytest.raises(UsageError, match=f"nobody publishes weights for {card.name}; give your own with --weights"):
            find_source(card.name)


def test_a_card_without_published_weights_takes_imagenet_s_usual_normalisation() -> None:
    assert not find("resnet50_v1").published
    built = bare("graft", "resnet50_v1", num_classes=2)
    assert (built.mean, built.std) == (find("resnet50").published[0].mean, find("resnet50").published[0].std)
