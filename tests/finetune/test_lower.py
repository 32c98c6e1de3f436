"""The lower part of a network: what ONNX Runtime makes of pixels is what PyTorch does, wherever the graph is from."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from graft.errors import GraftError, UsageError
from graft.finetune import lower as module
from graft.finetune.lower import StageOutput, lower_in_trunk, module_key, open_module, upper_in_trunk
from graft.models.network import Network, StageFeatures
from graft.runtime.export import export_onnx, pixels_first
from graft.runtime.onnx import OnnxRunner

SIZE = 16
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def block(into: int, out: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU6())


def network(seed: int) -> Network:
    """Three stages, the statistics of their batch norms far from those of a fresh one."""
    torch.manual_seed(seed)
    stages = nn.Sequential(OrderedDict(a=block(3, 4, stride=2), b=block(4, 6, stride=2), c=block(6, 8, stride=1)))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    built = Network(stages, ("a", "b", "c"), head)
    for norm in (each for each in built.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.running_mean = 0.3 * torch.randn(norm.num_features)
        norm.running_var = 0.2 + torch.rand(norm.num_features)
    return built.eval()


def stages(built: Network, count: int) -> nn.Sequential:
    return nn.Sequential(*list(built.stages)[:count])


def pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def by_torch(part: nn.Module, given: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = (torch.from_numpy(given).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(
        STD
    ).view(1, 3, 1, 1)
    with torch.inference_mode():
        return np.asarray(part(x).numpy())


def refuse_to_export(*_: object, **__: object) -> None:
    raise AssertionError("exported, where it need not be")


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ladder's graph of `network(0)`."""
    path = tmp_path_factory.mktemp("ladder") / "trunk.onnx"
    export_onnx(pixels_first(StageFeatures(network(0)), MEAN, STD), path, size=SIZE, output="ladder")
    return path


def test_exported_once_and_the_same_as_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = stages(network(0), 2)
    lower = open_module(part, tmp_path, size=SIZE, mean=MEAN, std=STD)
    assert (lower.shape, lower.size) == ((6, 4, 4), SIZE)
    given = pixels(3)
    expected = by_torch(part, given)
    np.testing.assert_allclose(lower.run(given), expected, atol=1e-5 * np.abs(expected).max())
    (file,) = (tmp_path / "lowers").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(module, "export_onnx", refuse_to_export)
        again = open_module(deepcopy(part), tmp_path, size=SIZE, mean=MEAN, std=STD)
        assert again.key == lower.key
        assert again.run(given).tobytes() == lower.run(given).tobytes()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # damaged
    mended = open_module(part, tmp_path, size=SIZE, mean=MEAN, std=STD)
    np.testing.assert_allclose(mended.run(given), expected, atol=1e-5 * np.abs(expected).max())
    assert [path.suffix for path in (tmp_path / "lowers").iterdir()] == [".onnx"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_cut_out_of_the_ladder_without_an_export(
    ladder: Path, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "export_onnx", refuse_to_export)
    part = stages(network(0), count)
    lower = open_module(part, tmp_path, size=SIZE, mean=MEAN, std=STD, output=StageOutput(ladder, count - 1))
    expected = by_torch(part, pixels(2))
    np.testing.assert_allclose(lower.run(pixels(2)), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("below", [1, 2])
def test_what_stands_above_an_output_is_cut_out_of_the_trunk(ladder: Path, below: int) -> None:
    graph = upper_in_trunk(StageOutput(ladder, below - 1), SIZE)
    assert graph is not None
    maps = by_torch(stages(network(0), below), pixels(3))  # (3, C, h, w)
    whole = by_torch(StageFeatures(network(0)), pixels(3))  # (3, Σ widths)
    above = OnnxRunner(graph)(maps)
    widths = StageFeatures(network(0)).eval().widths(torch.zeros(1, 3, SIZE, SIZE))
    expected = whole[:, sum(widths[:below]) :]
    assert above.shape == expected.shape
    np.testing.assert_allclose(above, expected, atol=1e-5 * np.abs(expected).max())


def test_what_cannot_stand_alone_above_an_output_is_not_cut_out(
    ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "newer.onnx"  # its outputs ask the pictures how many they are
    torch.onnx.export(
        pixels_first(StageFeatures(network(0)), MEAN, STD), (torch.from_numpy(pixels(2)),), newer, dynamo=True,
        external_data=False, verbose=False, input_names=["pixels"], output_names=["ladder"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )  # fmt: skip
    found = upper_in_trunk(StageOutput(newer, 0), SIZE)
    if found is not None:  # should that exporter ask no longer
        maps = by_torch(stages(network(0), 1), pixels(3))
        assert len(OnnxRunner(found)(maps)) == 3
    assert upper_in_trunk(StageOutput(ladder, 0), 2 * SIZE) is None
    monkeypatch.setattr(module, "PARITY", -1.0)  # nothing is near enough
    assert upper_in_trunk(StageOutput(ladder, 0), SIZE) is None


def test_a_ladder_of_other_weights_or_of_another_size_is_not_believed(ladder: Path, tmp_path: Path) -> None:
    other = stages(network(1), 2)
    lower = open_module(other, tmp_path, size=SIZE, mean=MEAN, std=STD, output=StageOutput(ladder, 1))
    expected = by_torch(other, pixels(2))
    np.testing.assert_allclose(lower.run(pixels(2)), expected, atol=1e-5 * np.abs(expected).max())
    assert lower_in_trunk(StageOutput(ladder, 1), SIZE) is not None
    assert lower_in_trunk(StageOutput(ladder, 1), 2 * SIZE) is None


def test_the_key_changes_with_all_that_changes_the_maps() -> None:
    def key(part: nn.Module, size: int = SIZE, mean: tuple[float, ...] = MEAN) -> str:
        return module_key(part, size=size, mean=mean, std=STD)

    part = stages(network(0), 2)
    weights, statistics, layer = (deepcopy(part) for _ in range(3))
    next(weights.parameters()).data[0, 0, 0, 0] += 1e-6
    next(each for each in statistics.modules() if isinstance(each, nn.BatchNorm2d)).running_var += 1e-6
    layer[0][2] = nn.ReLU()
    keys = [key(part), key(weights), key(statistics), key(layer), key(part, size=17), key(part, mean=(0.4, 0.5, 0.7))]
    assert len(set(keys)) == len(keys)
    assert key(deepcopy(part)) == key(part)


def test_a_part_that_gives_no_maps_is_refused(tmp_path: Path) -> None:
    part = nn.Sequential(*stages(network(0), 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match=r"must give maps \(N, C, h, w\), got \(N, 4\); cut it lower"):
        open_module(part, tmp_path, size=SIZE, mean=MEAN, std=STD)


def test_a_cache_that_cannot_be_written_is_one_line(
    ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "export_onnx", refuse_to_export)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(GraftError, match=r"the cache cannot be written: .*; free some space") as caught:
        open_module(
            stages(network(0), 1), tmp_path / "cache", size=SIZE, mean=MEAN, std=STD, output=StageOutput(ladder, 0)
        )
    assert "\n" not in str(caught.value)
