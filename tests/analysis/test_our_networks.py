"""Every network of our own: PyTorch's counter, its card, and Caffe's description of the lectures' four."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from analysis import lecture_networks as networks
from graft.analysis.readers.caffe import analyze_prototxt
from graft.analysis.readers.trace import analyze_module
from graft.analysis.table import Analysis, stages
from graft.models.catalog import CARDS, create, find
from graft.models.network import stage_names


def build(name: str) -> nn.Module:
    with torch.device("meta"):
        return create(name).eval()


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_counts(name: str) -> None:
    card, network = find(name), build(name)
    analysis = analyze_module(network, card.input, name=name)
    assert analysis.parameters == sum(p.numel() for p in network.parameters()) == card.parameters
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty(1, *card.input, device="meta"))
    assert analysis.macs == counter.get_total_flops() / 2 == card.macs
    assert analysis.uncounted == ()
    names = tuple(f"stages.{stage}" for stage in stage_names(network))
    parts = stages(analysis, (*names, "classifier"))
    assert [part.name for part in parts] == [*names, "classifier"]
    assert sum(part.macs for part in parts) == analysis.macs


def costs(analysis: Analysis) -> list[tuple[object, ...]]:
    """Layers that have weights: their geometry, cost and field."""
    return [
        (
            x.kind,
            x.output_shape,
            x.kernel,
            x.stride,
            x.padding,
            x.groups,
            x.parameters,
            x.macs,
            x.field and x.field.size,
        )
        for x in analysis.layers
        if x.kind in ("conv", "linear")
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alexnet", networks.alexnet_prototxt()),
        ("vgg16", networks.vgg16_prototxt()),
        ("googlenet", networks.googlenet_prototxt()),
        ("resnet50", networks.resnet50_prototxt(stride_in_3x3=True)),
    ],
)
def test_prototxt_gives_our_table(name: str, text: str) -> None:
    card = find(name)
    ours = analyze_module(build(name), card.input)
    caffe = analyze_prototxt(text, input_shape=card.input)
    if name in ("googlenet", "resnet50"):  # branches stand in another order
        assert sorted(costs(caffe), key=repr) == sorted(costs(ours), key=repr)
    else:
        assert costs(caffe) == costs(ours)
    assert caffe.parameters == ours.parameters
    memory = [sum(x.activation_bytes for x in a.layers if x.kind not in ("avg pool", "lrn")) for a in (caffe, ours)]
    assert memory[0] == memory[1]  # ours average to 6×6 and 7×7 for other sizes, and GoogLeNet's norms are ours alone
    assert caffe.macs == ours.macs
