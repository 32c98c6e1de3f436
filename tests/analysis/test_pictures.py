"""The pictures: lanes that never run through another layer, and SVG that says what the table says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch

from analysis import lecture_networks as networks
from graft.analysis.compare import compare, compare_csv, compare_json, compare_svg, compare_text
from graft.analysis.drawing.bars import bars_svg
from graft.analysis.drawing.draw import as_svg
from graft.analysis.drawing.lanes import lay_out
from graft.analysis.readers.caffe import analyze_prototxt
from graft.analysis.readers.trace import analyze_module
from graft.analysis.table import PICTURE, Analysis, Layer, folded

SVG = "{http://www.w3.org/2000/svg}"
timm = pytest.importorskip("timm")


def chain(*inputs: tuple[int, ...]) -> Analysis:
    rows = [Layer(f"n{i}", "add" if len(s) > 1 else "conv", s, (4, 2, 2), (4, 2, 2)) for i, s in enumerate(inputs)]
    return Analysis("chain", (4, 2, 2), tuple(rows))


def test_lanes_of_a_residual_block() -> None:
    layout = lay_out(chain((PICTURE,), (0,), (1,), (0, 2), (3,)))
    assert layout.lanes == (0, 0, 0, 0, 0)
    assert [(e.source, e.target, e.lane) for e in layout.edges if e.target == 3] == [(0, 3, 1), (2, 3, 0)]


def test_lanes_of_branches() -> None:
    layout = lay_out(chain((PICTURE,), (0,), (0,), (2,), (0,), (1, 3, 4)))
    assert layout.lanes == (0, 0, 1, 1, 2, 0)


NETWORKS = ("inception_v4", "densenet121", "hrnet_w18_small", "nasnetalarge", "dla34", "resnet50")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fold", [False, True])
def test_no_edge_runs_through_a_layer(name: str, fold: bool) -> None:
    network = timm.create_model(name, pretrained=False).eval().to("meta")
    analysis = analyze_module(network, network.pretrained_cfg["input_size"])
    analysis = folded(analysis) if fold else analysis
    layout = lay_out(analysis)
    assert len(layout.edges) == sum(len(layer.inputs) for layer in analysis.layers)
    for edge in layout.edges:
        assert all(layout.lanes[row] != edge.lane for row in range(edge.source + 1, edge.target)), edge
    owners: dict[tuple[int, int], int] = {}
    for edge in layout.edges:
        for row in range(edge.source + 1, edge.target):
            assert owners.setdefault((row, edge.lane), edge.source) == edge.source, edge


def test_a_row_holds_its_node_and_its_numbers() -> None:
    analysis = analyze_prototxt(networks.alexnet_prototxt())
    root = ET.fromstring(as_svg(analysis))
    rows = [g for g in root.iter(f"{SVG}g") if g.get("class") == "row"]
    assert len(rows) == len(folded(analysis).layers) == 11
    first = [t.text for t in rows[0].iter(f"{SVG}text")]
    assert first == ["11×11 conv, 64", "conv1", "64×56×56", "11×11 s4 p2", "784", "23.3 K", "72.9 M", "11", "4"]
    assert [r.get("class") for r in rows[0].iter(f"{SVG}rect")][:2] == ["lit", "shape"]
    assert len([p for p in root.iter(f"{SVG}path") if p.get("class") == "edge"]) == 11
    assert len(list(ET.fromstring(as_svg(analysis, fold=False)).iter(f"{SVG}g"))) == len(analysis.layers)


def test_names_are_escaped() -> None:
    bad = '<script>alert("x")</script>'
    analysis = Analysis(bad, (3, 4, 4), (Layer(bad, bad, (PICTURE,), (3, 4, 4), (3, 4, 4), activation_bytes=4),))
    for text in (as_svg(analysis), bars_svg(analysis)):
        ET.fromstring(text)
        assert "<script" not in text


def test_bars_are_in_proportion() -> None:
    analysis = analyze_prototxt(networks.alexnet_prototxt())
    root = ET.fromstring(bars_svg(analysis))
    bars = [next(g.iter(f"{SVG}rect")) for g in root.iter(f"{SVG}g") if g.get("class") == "bar"]
    assert len(bars) == 3 * 11
    heights = [float(bar.get("height", "0")) for bar in bars[22:]]
    macs = [layer.macs for layer in folded(analysis).layers]
    assert heights == pytest.approx([150 * n / max(macs) for n in macs], abs=0.06)


def test_comparison() -> None:
    small = analyze_prototxt(networks.alexnet_prototxt())
    large = analyze_prototxt(networks.vgg16_prototxt())
    rows = compare([(large, 71.6), (small, 56.5), (replace(small, network="unknown"), None)])
    assert [row.network for row in rows] == ["AlexNet", "unknown", "VGG-16"]
    assert rows[2].macs == 15_470_264_320
    assert compare_text(rows).splitlines()[2].startswith("AlexNet  3×227×227")
    assert compare_csv(rows).splitlines()[3].startswith("VGG-16,3×224×224,138357544,15470264320,")
    assert '"accuracy": null' in compare_json(rows)
    root = ET.fromstring(compare_svg(rows))
    (large_circle, small_circle) = (float(c.get("r", "0")) for c in root.iter(f"{SVG}circle"))
    assert (small_circle / large_circle) ** 2 == pytest.approx(small.parameters / large.parameters, abs=0.01)
    ys = [float(c.get("cy", "0")) for c in root.iter(f"{SVG}circle")]
    assert ys[0] < ys[1]  # higher accuracy stands higher


def test_comparison_refuses() -> None:
    small = analyze_prototxt(networks.alexnet_prototxt())
    with pytest.raises(ValueError, match="percent, 0 to 100, got 101"):
        compare([(small, 101)])
    with pytest.raises(ValueError, match="needs the accuracy of one network"):
        compare_svg(compare([(small, None)]))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_comparison_of_any_number(count: int) -> None:
    with torch.device("meta"):
        base = analyze_module(networks.alexnet(), (3, 227, 227))
    same = [(replace(base, network=f"net {i}"), 50.0) for i in range(count)]
    assert len(list(ET.fromstring(compare_svg(compare(same))).iter(f"{SVG}circle"))) == count
