"""One battery over every network of our own: each card is built, counted, run, trained a step, saved, cut and exported.

ONNX parity runs on the smallest network of each family (an export takes seconds), at the smallest side it takes; with
GRAFT_EXPORT_ALL=1 in the environment on every network, which takes some minutes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from graft.errors import UsageError
from graft.models import network as contract
from graft.models.card import Card
from graft.models.catalog import CARDS
from graft.models.families.densenet import DenseNet
from graft.runtime.export import export_onnx
from graft.runtime.onnx import OnnxRunner
from models.drawn import draw_norms, draw_weights, drawn_pictures, on_meta

NAMES = [card.name for card in CARDS]
TWINS = frozenset(
    card.name for card in CARDS if card.parameters > 100_000_000 and card.name not in ("vgg11", "vgg11_bn", "senet154")
)  # half a gigabyte each, and made of the layers of these three or of zfnet: spared what writes or fills as much again
FAMILIES = sorted({card.family.name for card in CARDS})
SMALLEST = [
    min((card for card in CARDS if card.family.name == family), key=lambda card: card.macs) for family in FAMILIES
]
EXPORTED = list(CARDS) if "GRAFT_EXPORT_ALL" in os.environ else SMALLEST


def side(card: Card) -> int:
    """The least side that a network takes, pixels: what keeps the battery quick."""
    return card.smallest_side or card.takes.side


def pictures(card: Card, count: int = 2) -> Tensor:
    """(count, C, side, side), the same first ones for every count."""
    return drawn_pictures((count, card.takes.channels, side(card), side(card)))


class FromPixels(nn.Module):
    """A network that takes (N, side, side, 3) uint8: its channels are the colours, over and over."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network, self.colours = network, [channel % 3 for channel in range(channels)]

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2)[:, self.colours].to(torch.float32)
        return self.network(x / 64 - 2)  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=CARDS, ids=NAMES)
def built(request: pytest.FixtureRequest) -> tuple[Card, nn.Module]:
    """Each card with its network, its batch norms' statistics and scales drawn at random, in eval mode."""
    card: Card = request.param
    network = on_meta(card).to_empty(device="cpu")
    draw_weights(network, seed=1)
    draw_norms(network, pictures(card, 4), seed=2)
    return card, network


def test_parameters_equal_the_card(built: tuple[Card, nn.Module]) -> None:
    """Multiply-adds are held against PyTorch's counter where they are counted: tests/analysis/test_our_networks.py."""
    card, network = built
    assert sum(p.numel() for p in network.parameters()) == card.parameters


def test_output_has_the_classes_of_the_card(built: tuple[Card, nn.Module]) -> None:
    card, network = built
    with torch.no_grad():
        logits = network(pictures(card))
    assert logits.shape == (2, card.classes)
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1])


def test_network_keeps_the_contract(built: tuple[Card, nn.Module]) -> None:
    card, network = built
    assert network.takes == card.takes
    assert len(contract.stage_names(network)) >= 2
    if card.name == "alphago_policy":
        with pytest.raises(UsageError, match=r"must end in nn\.Linear, this one ends in PositionBias"):
            contract.head(network)
    else:
        assert contract.head(network).out_features == card.classes


def test_cut_at_every_stage_composes_to_the_whole(built: tuple[Card, nn.Module]) -> None:
    card, network = built
    x = pictures(card, 1)
    with torch.no_grad():
        whole = network(x)
        for stage in (*contract.stage_names(network), "classifier"):
            lower, upper = contract.cut(network, stage)
            torch.testing.assert_close(upper(lower(x)), whole, rtol=0, atol=0, msg=f"cut at {stage}")


def test_saves_and_loads(built: tuple[Card, nn.Module], tmp_path: Path) -> None:
    card, network = built
    if card.name in TWINS:  # what a file would hold: every tensor once, under a name of its own
        state = network.state_dict()
        assert len({tensor.data_ptr() for tensor in state.values() if tensor.numel()}) == len(state)
        on_meta(card).load_state_dict(state, assign=True)
        return
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    again = on_meta(card).eval()
    again.load_state_dict(load_file(path), assign=True)
    path.unlink()
    torch.testing.assert_close(again.state_dict(), network.state_dict(), rtol=0, atol=0)
    with torch.no_grad():
        expected, found = network(pictures(card)), again(pictures(card))
    # Weights read from a file lie in memory as the file has them, so kernels may sum in another order.
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_every_parameter_gets_a_gradient(built: tuple[Card, nn.Module]) -> None:
    card, network = built
    twin = card.name in TWINS  # without weights, it is only seen whether a gradient comes, not that it is not 0
    network, x = (on_meta(card).eval(), pictures(card).to("meta")) if twin else (network, pictures(card))
    nn.functional.cross_entropy(network(x), torch.tensor([0, 1], device=x.device)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or (not twin and p.grad.norm() == 0)]
    network.zero_grad(set_to_none=True)
    assert without == []


def test_refuses_other_pictures_in_one_line(built: tuple[Card, nn.Module]) -> None:
    card, network = built
    channels, wrong = card.takes.channels, side(card) - 1
    for shape in ((1, channels, wrong, wrong), (1, channels + 1, side(card), side(card)), (channels, wrong, wrong)):
        with pytest.raises(
            UsageError, match=rf"takes pictures of shape .* got \({', '.join(map(str, shape))}\); resize"
        ):
            network(torch.zeros(shape))


def test_takes_another_size_where_the_paper_allows_it(built: tuple[Card, nn.Module]) -> None:
    card, network = built
    if card.smallest_side is None:
        with pytest.raises(UsageError, match="and no other size"):
            network(torch.zeros(1, card.takes.channels, side(card) + 1, side(card) + 1))
        return
    taller = torch.cat([pictures(card), pictures(card)[:, :, :5]], dim=2)
    with torch.no_grad():
        assert network(taller).shape == (2, card.classes)


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_another_number_of_classes(card: Card) -> None:
    if card.name == "alphago_policy":
        with pytest.raises(UsageError, match="a class for each of the board's 361 points, got 7; choose another"):
            on_meta(card, num_classes=7)
        return
    network = on_meta(card, num_classes=7)
    features = contract.head(network).in_features
    assert contract.head(network).out_features == 7
    assert sum(p.numel() for p in network.parameters()) == card.parameters - (card.classes - 7) * (features + 1)


def narrow_hidden_layers(network: nn.Module, width: int = 64) -> None:
    """Give the linear layers below a network's last one so few outputs: most weights of AlexNet and VGG stand there."""
    layers = [module for module in network.classifier.modules() if isinstance(module, nn.Linear)]
    narrow = dict(zip(layers, [nn.Linear(layers[0].in_features, width)], strict=False))
    narrow |= {layer: nn.Linear(width, layer.out_features if layer is layers[-1] else width) for layer in layers[1:]}
    for name, layer in list(network.classifier.named_modules()):
        if layer in narrow and len(layers) > 1:
            network.classifier.set_submodule(name, narrow[layer])


@pytest.mark.parametrize("card", EXPORTED, ids=[card.name for card in EXPORTED])
def test_onnx_gives_the_same_logits(card: Card, tmp_path: Path) -> None:
    network = on_meta(card).to_empty(device="cpu")
    if card.name == "densenet121" and EXPORTED is SMALLEST:  # as many kinds of layers, and a tenth of the seconds
        network = DenseNet(card.classes, depths=(2, 2, 2, 2))
    if card.parameters > 30_000_000 and EXPORTED is SMALLEST:
        narrow_hidden_layers(network)  # as many layers, and a tenth of the seconds
    draw_weights(network, seed=3)
    draw_norms(network, pictures(card, 4), seed=3)
    module = FromPixels(network, card.takes.channels).eval()
    file = tmp_path / "network.onnx"
    export_onnx(module, file, size=side(card), output="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (2, side(card), side(card), 3), dtype=np.uint8)
    found = OnnxRunner(file)(pixels)
    with torch.no_grad():
        expected = module(torch.from_numpy(pixels)).numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
