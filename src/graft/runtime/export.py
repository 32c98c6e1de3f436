"""A network as an ONNX graph that takes pixels: uint8 RGB in, the scaling to the network's range inside."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from graft.errors import BadModel

if TYPE_CHECKING:
    from torch import nn

LUMA: Final = (0.299, 0.587, 0.114)
"""How red, green and blue make grey. Source: ITU-R BT.601-7, §2.5.1."""

PARITY: Final = 1e-4  # the largest difference allowed, relative to the largest output


def pixels_first(
    module: nn.Module,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mean_offset: NDArray[np.float32] | None = None,
) -> nn.Module:
    """`module` behind its normalisation: (N, H, W, 3) uint8, 0–255 → what the module makes of (N, C, H, W).

    mean, std: per channel, in the 0–1 range; three for a module that takes RGB, one for a module that takes grey.
    mean_offset: (C, H, W), what is then subtracted, where the module was trained with a mean image.
    """
    import torch
    from torch import Tensor, nn

    class PixelsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, -1, 1, 1)))
            self.register_buffer("shift", -torch.tensor(mean).view(1, -1, 1, 1) / torch.tensor(std).view(1, -1, 1, 1))
            if len(mean) == 1:
                self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1))
            if mean_offset is not None:
                self.register_buffer("mean_offset", torch.tensor(mean_offset))

        def forward(self, pixels: Tensor) -> Tensor:
            x = pixels.permute(0, 3, 1, 2).to(torch.float32)  # (N, 3, H, W)
            if len(mean) == 1:
                x = (x * self.get_buffer("luma")).sum(dim=1, keepdim=True)  # (N, 1, H, W)
            x = x * self.get_buffer("scale") + self.get_buffer("shift")
            if mean_offset is not None:
                x = x - self.get_buffer("mean_offset")
            return self.module(x)  # type: ignore[no-any-return]

    return PixelsFirst().eval()


def export_onnx(module: nn.Module, path: Path, *, size: int, output: str) -> None:
    """Write a network that takes pixels as one ONNX file, and check it against PyTorch.

    module: takes (N, size, size, 3) uint8 as input `pixels`, gives (N, D) float32 under the name `output`. torch's
    older exporter is tried first: it traces a network in a second, the newer one takes ten, and is needed for the
    layers that the older one cannot state, or states for this number of pictures only.
    Raises BadModel when ONNX Runtime and PyTorch differ by more than PARITY.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    # timm's helpers take another path while tracing: more than one picture keeps their number free
    example, others = (
        torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator) for count in (2, 3)
    )
    with _quiet(), _out_of_place(module), torch.inference_mode():
        expected = module(others).numpy()
        with contextlib.suppress(Exception):  # it raises errors of any kind; the newer one says what is wrong
            torch.onnx.export(
                module, (example,), path, dynamo=False, input_names=["pixels"], output_names=[output],
                dynamic_axes={"pixels": {0: "n"}, output: {0: "n"}},
            )  # fmt: skip
            _tidy(path)
            if difference_to(path, others.numpy(), expected) <= PARITY:
                return
        torch.onnx.export(
            module, (example,), path, dynamo=True, external_data=False, verbose=False, input_names=["pixels"],
            output_names=[output], dynamic_shapes=({0: torch.export.Dim("n")},),
        )  # fmt: skip
    if not (difference := difference_to(path, others.numpy(), expected)) <= PARITY:
        raise BadModel(f"the exported network differs from PyTorch by {difference:.1e}, allowed is {PARITY:.0e}")


def _tidy(path: Path) -> None:
    """Rewrite a traced graph without what comes out the same for every picture, such as computed sizes of padding.

    Raises BadModel for a graph that ONNX Runtime cannot load.
    """
    import onnx
    import onnxruntime

    from graft.runtime.onnx import open_session

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # ONNX's own operators only
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    open_session(path.read_bytes(), options)
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node}
    domains = [domain for domain in model.opset_import if domain.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def difference_to(graph: Path | bytes, pixels: NDArray[np.uint8], expected: NDArray[np.float32]) -> float:
    """The largest between what a graph gives and what is expected, relative to the largest of that."""
    from graft.runtime.onnx import OnnxRunner

    found = OnnxRunner(graph)(pixels)
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notices to its own developers."""
    chatter = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [log.level for log in chatter]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for log in chatter:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(chatter, levels, strict=True):
                log.setLevel(level)


@contextlib.contextmanager
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """With layers that overwrite nothing: the exporter restates each one that does, a third of its time."""
    overwriting = [layer for layer in module.modules() if getattr(layer, "inplace", False) is True]
    for layer in overwriting:
        layer.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in overwriting:
            layer.inplace = True  # type: ignore[assignment]
