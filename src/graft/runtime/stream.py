"""Keep every core busy over a long list: load and run, in order, in constant memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, ahead: int = 8
) -> Iterator[Result]:
    """`map(work, items)` in threads: results in order, at most `ahead` items a thread in flight.

    work should release the interpreter lock (decoding and ONNX Runtime do). The first exception of `work` is raised
    here once what is in flight has ended; closing the iterator early leaves no thread behind.
    """
    threads = threads or cores()
    items = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="graft") as pool:
        flying: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(items, threads * ahead))
        try:
            while flying:
                result = flying.popleft().result()
                flying.extend(pool.submit(work, item) for item in islice(items, 1))
                yield result
        finally:
            for future in flying:
                future.cancel()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive lists of `size` items; the last may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
