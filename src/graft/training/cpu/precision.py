"""Two decisions before the first step, by trying: how many pictures fit in memory at once, and in which precision.

bfloat16 doubles the speed of most convolutions on a CPU that has instructions for it, and slows down some layers; what
that makes of a network, a few timed passes say.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor, nn

from graft.errors import GraftError
from graft.training.recipe.losses import Loss

Precision = Literal["float32", "bfloat16"]

GAIN: Final = 1.1  # how much faster bfloat16 must be to be chosen
_ROUNDS: Final = 3
_ENOUGH_SECONDS: Final = 5.0  # of timing: a slow network's first round says enough
_SHARE_OF_MEMORY: Final = 0.8
_OVERHEAD: Final = 1.5  # what backward passes allocate beside the activations kept for them

_OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "could not create a memory")


def autocast(device: str, precision: Precision) -> torch.autocast:
    """The context in which a network's forward pass runs."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16."""
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    return any("bf16" in name and present is True for name, present in torch.cpu.get_capabilities().items())


def choose_precision(network: nn.Module, x: Tensor, target: Tensor, loss: Loss, device: str) -> Precision:
    """bfloat16 if a forward and backward pass is faster in it by GAIN, else float32.

    x: (n, C, H, W), target: (n,) int64: one batch. The network is not changed: a copy of it runs.
    """
    if not has_bfloat16(device):
        return "float32"
    trial = copy.deepcopy(network).train()
    choices: tuple[Precision, ...] = ("float32", "bfloat16")
    best = dict.fromkeys(choices, math.inf)
    began = time.perf_counter()
    for round_number in range(_ROUNDS + 1):
        for precision in choices:
            seconds = _pass_seconds(trial, x, target, loss, device, precision)
            if round_number > 0:  # in the first, libraries choose and build their kernels
                best[precision] = min(best[precision], seconds)
        if round_number > 0 and time.perf_counter() - began > _ENOUGH_SECONDS:
            break
    return faster(best["float32"], best["bfloat16"])


def faster(float32_seconds: float, bfloat16_seconds: float) -> Precision:
    """The decision alone, from the seconds that a pass takes in each precision."""
    return "bfloat16" if bfloat16_seconds * GAIN < float32_seconds else "float32"


def _pass_seconds(
    network: nn.Module, x: Tensor, target: Tensor, loss: Loss, device: str, precision: Precision
) -> float:
    _synchronize(device)
    began = time.perf_counter()
    with autocast(device, precision):
        outputs = network(x)
    loss(outputs, target).mean().backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def choose_batch(
    network: nn.Module, prepared: Callable[[int], tuple[Tensor, Tensor]], loss: Loss, batch: int, device: str
) -> int:
    """`batch`, halved until one forward and backward pass of so many pictures fits in the memory that is free.

    prepared: gives (x, target) of so many pictures. On a CPU the need is reckoned from what two pictures keep for the
    backward pass, since a system out of memory kills processes instead of refusing; then one pass is tried.
    Raises GraftError when not even one picture fits.
    """
    trial = copy.deepcopy(network).train()
    reckoned = False
    while True:
        try:
            if not reckoned:
                kept = activation_bytes(trial, prepared(min(2, batch))[0])
                batch, reckoned = halved_to_fit(batch, kept, available_bytes(device)), True
            _pass_seconds(trial, *prepared(batch), loss, device, "float32")
            return batch
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if batch == 1:
                raise GraftError(
                    "one picture's forward and backward pass does not fit in memory; take smaller pictures or a "
                    "smaller network"
                ) from error
        batch = -(-batch // 2)


def halved_to_fit(batch: int, bytes_per_picture: float, available: float) -> int:
    """`batch` halved, rounding up, until its pictures need no more than the share of `available` bytes in use here."""
    while batch > 1 and batch * bytes_per_picture * _OVERHEAD > available * _SHARE_OF_MEMORY:
        batch = -(-batch // 2)
    return batch


def activation_bytes(network: nn.Module, x: Tensor) -> float:
    """Bytes for each picture of x (n, C, H, W) that a forward pass keeps for the backward one, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x)
    return sum(kept.values()) / len(x)


def available_bytes(device: str) -> float:
    """Memory that is free to use: the GPU's, or the system's within the limit of its container; inf if unknown."""
    if device != "cpu":
        return float(torch.cuda.mem_get_info()[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return math.inf
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
    return min(float(lines["MemAvailable"].split()[0]) * 1024, _container_bytes())


def _container_bytes() -> float:
    """What a container's memory limit leaves, by the second version of control groups; inf without one."""
    group = Path("/sys/fs/cgroup")
    if not (group / "memory.max").exists():
        return math.inf
    limit = (group / "memory.max").read_text(encoding="ascii").strip()
    if limit == "max":
        return math.inf
    used = float((group / "memory.current").read_text(encoding="ascii"))
    kinds = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    return max(0.0, float(limit) - used + float(kinds["file"]))  # cached files give way


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)
