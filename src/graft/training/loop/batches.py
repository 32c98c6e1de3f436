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
from typing import Final, TypeVar

import numpy as np
import torch

from graft.data.augmentation import draw
from graft.training.loop.source import Positions

T = TypeVar("T")

THREADS: Final = 2  # that prepare
AHEAD: Final = 4  # batches that wait for the network


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
