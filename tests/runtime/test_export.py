"""Pixels to a network's input inside the graph: RGB, grey and a mean image, against plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from graft.runtime.export import export_onnx, pixels_first
from graft.runtime.onnx import OnnxRunner


def pixels(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_rgb_is_normalised_channel_by_channel() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    given = pixels(2, 4)
    expected = ((given / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    found = pixels_first(nn.Identity(), mean, std)(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_mean_makes_grey_as_pillow_does() -> None:
    given = pixels(2, 8)
    grey = np.stack([np.asarray(Image.fromarray(one).convert("L"), np.float64) for one in given])
    found = pixels_first(nn.Identity(), (0.25,), (0.5,))(torch.from_numpy(given)).numpy()
    assert found.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(found[:, 0], (grey / 255 - 0.25) / 0.5, atol=1.01 / 255 / 0.5)  # Pillow rounds down


def test_a_grey_picture_keeps_its_values() -> None:
    given = np.repeat(pixels(1, 8)[..., :1], 3, axis=3)
    found = pixels_first(nn.Identity(), (0.0,), (1.0,))(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found[0, 0], given[0, ..., 0] / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mean_image_is_subtracted_in_the_graph_too(channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mean_image = rng.uniform(0.2, 0.8, (channels, 8, 8)).astype(np.float32)
    mean, std = mean_image.mean(axis=(1, 2)), np.full(channels, 0.5, np.float32)
    offset = (mean_image - mean[:, None, None]) / std[:, None, None]
    network = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten())
    module = pixels_first(network, tuple(map(float, mean)), tuple(map(float, std)), offset)
    file = tmp_path / "graph.onnx"
    export_onnx(module, file, size=8, output="features")
    given = np.repeat(pixels(3, 8)[..., :1], 3, axis=3)
    x = torch.from_numpy(given[..., :channels].transpose(0, 3, 1, 2) / 255).float()
    with torch.inference_mode():
        expected = network((x - torch.from_numpy(mean_image)) / 0.5).numpy()
    np.testing.assert_allclose(OnnxRunner(file)(given), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "exporters"),
    [
        (nn.AdaptiveAvgPool2d(1), [False]),
        (nn.AdaptiveAvgPool2d(3), [False, True]),  # windows of two sizes, which ONNX has no pool for
    ],
)
def test_what_the_older_exporter_cannot_state_goes_through_the_newer(
    layer: nn.Module, exporters: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    export = torch.onnx.export

    def spy(*given: object, **named: object) -> object:
        asked.append(named["dynamo"])
        return export(*given, **named)

    monkeypatch.setattr(torch.onnx, "export", spy)
    module = pixels_first(nn.Sequential(layer, nn.Flatten()), (0.0,) * 3, (1.0,) * 3)
    export_onnx(module, tmp_path / "graph.onnx", size=8, output="features")
    assert asked == exporters
    given = pixels(5, 8)
    expected = layer(torch.from_numpy(given).permute(0, 3, 1, 2) / 255).flatten(1).numpy()
    np.testing.assert_allclose(OnnxRunner(tmp_path / "graph.onnx")(given), expected, atol=1e-6)


def test_a_traced_graph_that_differs_from_pytorch_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export, done = torch.onnx.export, []

    def astray(module: nn.Module, *given: object, **named: object) -> object:
        program = export(module if named["dynamo"] else nn.Sequential(module, nn.Softplus()), *given, **named)
        done.append(named["dynamo"])
        return program

    monkeypatch.setattr(torch.onnx, "export", astray)
    export_onnx(pixels_first(nn.Flatten(), (0.0,) * 3, (1.0,) * 3), tmp_path / "g.onnx", size=4, output="features")
    assert done == [False, True]
    given = pixels(5, 4)
    found = OnnxRunner(tmp_path / "g.onnx")(given)
    np.testing.assert_allclose(found, (given / 255).transpose(0, 3, 1, 2).reshape(5, -1), atol=1e-6)


def test_a_graph_traced_for_two_pictures_only_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`len` is a plain number while tracing, so that the older exporter's graph always has two rows."""
    export, done = torch.onnx.export, []

    class Rows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(len(x) if torch.jit.is_tracing() else x.shape[0], -1)

    def spy(*given: object, **named: object) -> object:
        program = export(*given, **named)
        done.append(named["dynamo"])
        return program

    monkeypatch.setattr(torch.onnx, "export", spy)
    export_onnx(pixels_first(Rows(), (0.0,) * 3, (1.0,) * 3), tmp_path / "g.onnx", size=4, output="features")
    assert done == [False, True]
    assert OnnxRunner(tmp_path / "g.onnx")(pixels(5, 4)).shape == (5, 48)
