"""What an epoch's steps are made of, and preparing their batches ahead of them on threads of their own.

Every batch is a function of (seed, epoch, the pictures in it): however many threads prepare, in whatever order they
finish, the numbers are the same.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graft.data import draw
from graft.data.augment import Augmentation, augment
from graft.data.mixing import Kind, mix
from graft.training.normalize import Normalization
from graft.training.pictures import Pictures

Positions = NDArray[np.int64]
T = TypeVar("T")

THREADS: Final = 2  # that prepare
AHEAD: Final = 4  # batches that wait for the network


@dataclass(frozen=True)
class Batch:
    """x: (n, C, H, W) float32, normalised. target: (n,) int64 classes, or (n, K) shares of them after mixing."""

    x: Tensor
    target: Tensor


@dataclass(frozen=True)
class Recipe:
    """How pictures become batches. policy: () for evaluation. mixing: mixup or cutmix with its alpha, or None.

    classes: K. seed: what augmentation and mixing are drawn from.
    """

    normalization: Normalization
    classes: int
    seed: int
    policy: tuple[Augmentation, ...] = ()
    mixing: tuple[Kind, float] | None = None
    channels_last: bool = True

    def plain(self) -> Recipe:
        """The same without augmentation and mixing, for evaluation."""
        return Recipe(self.normalization, self.classes, self.seed, channels_last=self.channels_last)


def epoch_steps(seed: int, epoch: int, pictures: int, per_step: int) -> list[Positions]:
    """Which pictures each step of an epoch takes: the epoch's order, cut in ⌈pictures / per_step⌉ parts.

    The parts differ by one picture at most, so that no step is left with a handful.
    """
    return np.array_split(draw.order(seed, epoch, pictures), -(-pictures // per_step))


def shard(order: Positions, rank: int, world: int) -> Positions:
    """The part of `order` (n,) that process `rank` of `world` takes: every world-th picture, from `rank` on."""
    return order[rank::world]


def split(positions: Positions, batch: int) -> list[Positions]:
    """Positions cut in as few parts of `batch` or fewer as there can be, which differ by one at most."""
    return np.array_split(positions, max(1, -(-len(positions) // batch)))


def prepare(pictures: Pictures, positions: Positions, *, recipe: Recipe, epoch: int) -> Batch:
    """Read, scale to 0–1, augment, mix, normalise: the pictures at `positions` (n,) as a batch."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures.read(positions)))  # (n, H, W, C) uint8
    memory = torch.channels_last if recipe.channels_last else torch.contiguous_format
    x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory).mul_(1 / 255)  # (n, C, H, W), 0–1
    target = torch.from_numpy(pictures.labels[positions])
    samples = pictures.ids[positions]
    if recipe.policy:
        x = augment(x, recipe.policy, seed=recipe.seed, epoch=epoch, samples=samples)
    if recipe.mixing:
        kind, alpha = recipe.mixing
        shares = torch.nn.functional.one_hot(target, recipe.classes).to(torch.float32)  # (n, K)
        x, target = mix(x, shares, kind=kind, alpha=alpha, seed=recipe.seed, epoch=epoch, samples=samples)
    return Batch(recipe.normalization.normalize(x).contiguous(memory_format=memory), target)


def ahead(make: Callable[[Positions], T], parts: Sequence[Positions], pool: ThreadPoolExecutor) -> Generator[T]:
    """make(part) for each part, in order, a few of them made on the pool's threads before they are asked for."""
    waiting: deque[Future[T]] = deque()
    remaining = iter(parts)
    try:
        while True:
            waiting.extend(pool.submit(make, part) for part in itertools.islice(remaining, AHEAD - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def preparing_pool() -> ThreadPoolExecutor:
    """Threads that prepare batches. Each runs torch on itself alone, so as not to take the cores from the steps.

    torch keeps that number for each thread, and once more for threads to come: the caller's own is set again, which
    restores the latter.
    """
    own = torch.get_num_threads()
    pool = ThreadPoolExecutor(THREADS, "prepare", initializer=torch.set_num_threads, initargs=(1,))
    all_begun = threading.Barrier(THREADS)
    for begun in [pool.submit(all_begun.wait) for _ in range(THREADS)]:
        begun.result()
    torch.set_num_threads(own)
    return pool
