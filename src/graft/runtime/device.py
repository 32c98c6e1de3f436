"""Which device runs the network, and a network on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from graft.errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from torch import nn

Device = Literal["cpu", "cuda"]


def choose_device(asked: str) -> Device:
    """`auto`, `cpu` or `cuda` → the device to use; `auto` is the GPU where there is one.

    Raises UsageError for another word, or for `cuda` where no GPU can be used. Asks the driver before importing torch.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device must be auto, cpu or cuda, got {shown(asked)!r}{nearest(asked, ['auto', 'cpu', 'cuda'])}"
        )
    if asked == "cpu" or (asked == "auto" and not _driver_present()):
        return "cpu"
    available = False
    if _driver_present():
        import torch

        available = torch.cuda.is_available()
    if not available and asked == "cuda":
        raise UsageError("--device cuda needs an NVIDIA GPU and its driver, none was found here; use --device cpu")
    return "cuda" if available else "cpu"


def _driver_present() -> bool:
    """Whether the NVIDIA driver's library can be loaded: 1 ms, against seconds to import torch."""
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class TorchRunner:
    """A module that takes pixels, on a GPU: (N, S, S, 3) uint8 → (N, D) float32. One call at a time."""

    def __init__(self, module: nn.Module, device: Device = "cuda") -> None:
        import torch

        self._torch, self._device = torch, device
        self._module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch = self._torch
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as the graph will
            output = self._module(torch.from_numpy(pixels).to(self._device, non_blocking=True))
            return np.asarray(output.float().cpu().numpy())
