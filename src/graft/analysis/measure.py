"""Latency and throughput of a network's stages on this machine, beside their multiply-adds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graft.analysis.show import aligned, amount
from graft.analysis.table import Analysis, Shape, stages
from graft.errors import UsageError


@dataclass(frozen=True)
class StageTime:
    """A stage's median time for one batch. macs: of the whole batch."""

    stage: str
    seconds: float
    macs: int

    @property
    def per_second(self) -> float:
        """MACs by seconds, 0 where no time was measured."""
        return self.macs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Measured:
    """A network's times. seconds: median for one batch; fastest, slowest: of the repeats; threads: torch's own."""

    network: str
    batch: int
    repeats: int
    threads: int
    seconds: float
    fastest: float
    slowest: float
    stages: tuple[StageTime, ...]

    @property
    def pictures_per_second(self) -> float:
        """At the median time."""
        return self.batch / self.seconds


def measure(
    module: nn.Module, analysis: Analysis, parts: Mapping[str, nn.Module], *, batch: int = 1, repeats: int = 10
) -> Measured:
    """Time a network in eval mode on noise, on the CPU, in float32 as PyTorch runs it.

    module: with real weights; its modes are given back and its hooks removed. analysis: of the module, for input and
    MACs. parts: submodules to time apart, by the names that their layers begin with in the analysis. After two runs
    to warm up, medians of `repeats`.
    Raises UsageError for a module without weights, ValueError for a batch or repeats below 1.
    """
    if batch < 1 or repeats < 1:
        raise ValueError(f"batch and repeats must be at least 1, got {batch} and {repeats}")
    if any(tensor.is_meta for tensor in module.parameters()):
        raise UsageError(
            f"measuring {analysis.network} needs weights, got a network without; build it off the meta device"
        )
    pictures = noise(analysis.input_shape, batch)
    times: dict[str, list[float]] = {name: [] for name in parts}
    whole: list[float] = []
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode(), _clocks(parts, times):
            for _ in range(2):
                module(pictures)
            for spent in times.values():
                spent.clear()
            for _ in range(repeats):
                start = time.perf_counter()
                module(pictures)
                whole.append(time.perf_counter() - start)
    finally:
        for part, mode in training.items():
            part.training = mode
    macs = {stage.name: stage.macs for stage in stages(analysis, tuple(parts))}
    runs = {name: _by_run(spent, repeats) for name, spent in times.items()}
    return Measured(
        network=analysis.network,
        batch=batch,
        repeats=repeats,
        threads=torch.get_num_threads(),
        seconds=statistics.median(whole),
        fastest=min(whole),
        slowest=max(whole),
        stages=tuple(
            StageTime(name, statistics.median(spent), macs.get(name, 0) * batch)
            for name, spent in runs.items()
            if spent
        ),
    )


def noise(input_shape: Shape, batch: int) -> torch.Tensor:
    """(N, C, H, W) normal noise, the same at every call."""
    return torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(0))


def _by_run(spent: list[float], repeats: int) -> list[float]:
    """A stage's time in each run, its calls added up."""
    calls = len(spent) // repeats
    return [sum(spent[i * calls : (i + 1) * calls]) for i in range(repeats)] if calls else []


@contextmanager
def _clocks(parts: Mapping[str, nn.Module], times: dict[str, list[float]]) -> Iterator[None]:
    """Note the seconds of each call of each part."""
    started: dict[str, float] = {}

    def start(name: str) -> Any:
        def hook(_: nn.Module, __: Any) -> None:
            started[name] = time.perf_counter()

        return hook

    def stop(name: str) -> Any:
        def hook(_: nn.Module, __: Any, ___: Any) -> None:
            times[name].append(time.perf_counter() - started[name])

        return hook

    handles = []
    for name, part in parts.items():
        handles.append(part.register_forward_pre_hook(start(name)))
        handles.append(part.register_forward_hook(stop(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def measured_text(measured: Measured) -> str:
    """The times for a terminal: a line a stage, then the whole."""
    rows = [("stage", "ms", "share", "MACs", "GMAC/s")]
    for stage in measured.stages:
        share = stage.seconds / measured.seconds
        speed = f"{stage.per_second / 1e9:.1f}" if stage.macs else "–"
        rows.append((stage.stage, f"{1000 * stage.seconds:.2f}", f"{share:.0%}", amount(stage.macs).strip(), speed))
    spread = f"{1000 * measured.fastest:.1f} to {1000 * measured.slowest:.1f} in {measured.repeats} runs"
    total = (
        f"a batch of {measured.batch} takes {1000 * measured.seconds:.1f} ms ({spread}, {measured.threads} threads): "
    )
    return "\n".join([*aligned(rows, left=1), "", f"{total}{measured.pictures_per_second:.1f} pictures a second"])
