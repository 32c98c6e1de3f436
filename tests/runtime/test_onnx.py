"""The exported graph is the network: same numbers as PyTorch, same bits however it is called."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess, fit_picture
from graft.errors import BadModel
from graft.features.trunk import open_trunk
from graft.heads.head import Head
from graft.models.adapter import adapt
from graft.models.network import trunk as lower
from graft.models.weights import find_source
from graft.runtime import export as export_module
from graft.runtime.device import TorchRunner
from graft.runtime.export import PARITY, export_onnx, pixels_first
from graft.runtime.graph import with_head
from graft.runtime.onnx import OnnxRunner


@pytest.fixture(scope="module")
def lite0(session_cache: Path) -> Path:
    return open_trunk(find_source("efficientnet-lite0"), session_cache).graph


def photos(folder: Path, size: int, count: int) -> NDArray[np.uint8]:
    """(count, size, size, 3) real pixels."""
    paths = sorted(folder.glob("*.jpg"))[:count]
    return np.stack([fit_picture(decode(read_picture(p), name=p.name).image, Preprocess(size)) for p in paths])


def randomise(network: nn.Module) -> None:
    """Batch-norm statistics and scales as after training; those of a fresh network hide what folding gets wrong."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.uniform_(0.5, 1.5, generator=draw)
            norm.bias.uniform_(-0.3, 0.3, generator=draw)
            norm.running_mean.uniform_(-0.3, 0.3, generator=draw)
            norm.running_var.uniform_(0.5, 1.5, generator=draw)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_graph_of_a_network_with_random_statistics_equals_pytorch(
    name: str, data_kit: Callable[[str], Path], tmp_path: Path
) -> None:
    adapted = adapt(name)
    randomise(adapted.network)
    module = pixels_first(lower(adapted.network), (0.1, 0.5, 0.6), (0.2, 0.4, 0.5))
    export_onnx(module, tmp_path / "network.onnx", size=adapted.size, output="features")
    pixels = photos(data_kit("imagenet-200"), adapted.size, 4)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor([0.1, 0.5, 0.6]).view(3, 1, 1)) / (
        torch.tensor([0.2, 0.4, 0.5]).view(3, 1, 1)
    )
    with torch.inference_mode():
        expected = lower(adapted.network)(x).numpy()
    run = OnnxRunner(tmp_path / "network.onnx")
    for given in (run(pixels), TorchRunner(module, "cpu")(pixels)):
        assert given.dtype == np.float32
        assert np.abs(given - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len(list(tmp_path.iterdir())) == 1  # no weights beside the file


def test_a_picture_gives_the_same_bits_alone_and_in_threads(lite0: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), dtype=np.uint8)
    run = OnnxRunner(lite0)
    alone = [run(one[None]) for one in pixels]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda one: run(one[None]), pixels))
    assert [a.tobytes() for a in alone] == [b.tobytes() for b in beside]
    together = run(pixels)
    assert np.abs(together - np.concatenate(alone)).max() <= 1e-5 * np.abs(together).max()


def test_a_head_on_the_graph_is_a_matrix_and_a_softmax(lite0: Path) -> None:
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(0, 0.1, (3, 1280)).astype(np.float32), np.array([1, -1, 0.5], np.float32)
    pixels = draw.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    data = with_head(lite0, Head("logistic", weight, bias), ("a", "b\nc", "ü"))
    logits = OnnxRunner(lite0)(pixels)[:, -1280:].astype(np.float64) @ weight.T.astype(np.float64) + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(OnnxRunner(data)(pixels), expected, atol=1e-5)
    model = onnx.load_model_from_string(data)
    assert [output.name for output in model.graph.output] == ["probabilities", "logits"]
    assert {p.key: p.value for p in model.metadata_props} == {"classes": "a\nb c\nü"}


def test_an_export_that_differs_from_pytorch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pixels_first(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (0.5,) * 3, (0.5,) * 3)
    export_onnx(module, tmp_path / "sound.onnx", size=8, output="features")
    assert PARITY == 1e-4
    monkeypatch.setattr(export_module, "PARITY", -1.0)
    with pytest.raises(BadModel, match="the exported network differs from PyTorch by"):
        export_onnx(module, tmp_path / "other.onnx", size=8, output="features")


def test_what_is_no_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "page.onnx").write_text("<html>")
    for model in (tmp_path / "page.onnx", b"<html>", tmp_path / "absent.onnx"):
        with pytest.raises(BadModel, match="is not a graph that ONNX Runtime can load") as caught:
            OnnxRunner(model)
        assert "\n" not in str(caught.value)
