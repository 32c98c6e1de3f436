"""Other libraries' weights load into ours: their networks, drawn at random, are the oracle; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from graft.models.auxiliary import logits_with_auxiliary
from graft.models.card import Card, Published
from graft.models.catalog import CARDS, find
from graft.models.names import SERESNET, renamed
from graft.models.published import COUNTER, in_our_names
from models.drawn import draw_norms, draw_weights, drawn_pictures, on_meta

HAVING = [card for card in CARDS if card.published]
PAIRS = [(card, published) for card in HAVING for published in card.published]
PAIR_NAMES = [f"{card.name}-{published.library}" for card, published in PAIRS]


def theirs_on_meta(published: Published, *, auxiliary: bool = False) -> nn.Module:
    """The other library's own network, without memory for its weights."""
    with torch.device("meta"):
        if published.library == "timm":
            return timm.create_model(published.model)
        if published.model in ("googlenet", "inception_v3"):
            build = getattr(torchvision.models, published.model)
            return build(weights=None, aux_logits=auxiliary, init_weights=False)
        return torchvision.models.get_model(published.model, weights=None)


def drawn(published: Published, pictures: Tensor, *, auxiliary: bool = False) -> nn.Module:
    """The same, with drawn weights and the batch norm statistics of these pictures, in eval mode."""
    theirs = theirs_on_meta(published, auxiliary=auxiliary).to_empty(device="cpu")
    draw_weights(theirs, seed=5)
    draw_norms(theirs, pictures, seed=6)
    return theirs


def empty(card: Card, *, auxiliary: bool = False) -> nn.Module:
    """Our network, its memory full of NaN, in eval mode: what is not copied shows."""
    network = on_meta(card, auxiliary=auxiliary).to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
    return network


def load(ours: nn.Module, card: Card, theirs: Mapping[str, Tensor]) -> None:
    """Their weights in our network; none is missing but counts of batches, none is left over."""
    missing, unexpected = ours.load_state_dict(in_our_names(ours, card, theirs), strict=False)
    assert [name for name in missing if not name.endswith(COUNTER)] == []
    assert unexpected == []


@pytest.mark.parametrize(("card", "published"), PAIRS, ids=PAIR_NAMES)
def test_parameters_equal_the_other_library_s(card: Card, published: Published) -> None:
    theirs = theirs_on_meta(published)
    assert card.parameters == sum(p.numel() for p in theirs.parameters())
    ours = {name: tensor.shape for name, tensor in on_meta(card).state_dict().items()}
    assert {renamed(name, published.names): t.shape for name, t in theirs.state_dict().items()} == ours


@pytest.mark.parametrize("card", HAVING, ids=[card.name for card in HAVING])
def test_copied_weights_give_the_same_logits(card: Card) -> None:
    """At a size with odd maps on the way, so that padding, rounding of pools and the place of the stride all count."""
    assert card.smallest_side is not None
    side = max(card.smallest_side, 64) + 11
    pictures = drawn_pictures((2, card.takes.channels, side, side))
    theirs = drawn(card.published[0], pictures)
    ours = empty(card)
    load(ours, card, theirs.state_dict())
    with torch.no_grad():
        expected, found = theirs(pictures), ours(pictures)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", ["googlenet_bn", "inception_v3"])
def test_auxiliary_logits_are_torchvision_s(name: str) -> None:
    card = find(name)
    pictures = drawn_pictures((1, *card.input))
    theirs = drawn(card.published[0], pictures, auxiliary=True)
    ours = empty(card, auxiliary=True)
    load(ours, card, theirs.state_dict())
    theirs.training = True  # of the whole alone: it gives its auxiliary logits, and its parts stay in eval mode
    with torch.no_grad():
        expected = theirs(pictures)  # (logits, aux2, aux1) or (logits, aux)
        logits, auxiliary = logits_with_auxiliary(ours, pictures)
    torch.testing.assert_close(logits, expected[0], rtol=1e-5, atol=1e-5)
    assert len(auxiliary) == len(expected) - 1
    for found, wanted in zip(auxiliary, reversed(expected[1:]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_auxiliary_weights_are_left_out_where_the_network_has_none() -> None:
    card = find("googlenet_bn")
    theirs = drawn(card.published[0], drawn_pictures((2, 3, 64, 64)), auxiliary=True)
    ours = empty(card)
    load(ours, card, theirs.state_dict())
    assert all(torch.isfinite(p).all() for p in ours.parameters())


def test_files_of_before_2018_load() -> None:
    """torchvision's older DenseNet files write norm.1 for norm1, and have no counts of batches."""
    card = find("densenet121")
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in drawn(card.published[0], drawn_pictures((2, 3, 32, 32))).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    ours = empty(card)
    load(ours, card, old)
    assert all(torch.isfinite(tensor).all() for tensor in ours.state_dict().values())


def test_names_by_hand() -> None:
    assert renamed("layer0.conv1.weight", SERESNET) == "stages.conv1.conv.weight"
    assert renamed("layer2.0.se_module.fc1.bias", SERESNET) == "stages.conv3_x.0.se.fc1.bias"
    assert renamed("layer1.2.downsample.1.running_var", SERESNET) == "stages.conv2_x.blocks.2.shortcut.bn.running_var"
    assert renamed("aux.weight", ((r"^aux\.", None),)) is None


def test_torchvision_s_own_record_of_error_and_operations() -> None:
    """Cards whose error is torchvision's print what its weights' metadata say, and its count of multiply-adds."""
    checked = 0
    for card in CARDS:
        for published in card.published:
            if published.library == "torchvision":
                meta = next(iter(torchvision.models.get_model_weights(published.model))).meta
                assert meta["_ops"] == pytest.approx(card.macs / 1e9, abs=5e-4), card.name
                if card.error and card.error.source.startswith("torchvision"):
                    metrics = meta["_metrics"]["ImageNet-1K"]
                    assert card.error.top1 == pytest.approx(100 - metrics["acc@1"], abs=1e-9), card.name
                    assert card.error.top5 == pytest.approx(100 - metrics["acc@5"], abs=1e-9), card.name
                    checked += 1
    assert checked == 11
