"""Order, memory and threads of the long loop, and the choice of a device."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from graft.errors import UsageError
from graft.runtime import device as device_module
from graft.runtime.device import choose_device
from graft.runtime.stream import batched, cores, ordered_map


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("graft")]


def test_results_come_in_order_though_later_items_end_first() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(ordered_map(work, range(40), threads=4)) == [item * item for item in range(40)]
    assert list(ordered_map(work, [])) == []
    assert ours() == []


def test_no_more_than_so_many_items_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    for done, _ in enumerate(ordered_map(lambda item: item, items(), threads=2, ahead=3), 1):
        assert taken <= done + 6
    assert taken == 1000


def test_the_first_exception_is_raised_in_its_place_and_no_thread_is_left() -> None:
    def work(item: int) -> int:
        if item in (5, 7):
            raise ValueError(f"item {item}")
        return item

    seen: list[int] = []
    with pytest.raises(ValueError, match="item 5"):
        seen.extend(ordered_map(work, range(100), threads=3))
    assert seen == [0, 1, 2, 3, 4]
    assert ours() == []


def test_closing_early_leaves_no_thread_and_starts_nothing_more() -> None:
    started: list[int] = []
    results = ordered_map(started.append, range(1000), threads=2, ahead=4)
    next(results)
    assert len(ours()) == 2
    results.close()  # type: ignore[attr-defined]
    assert ours() == []
    assert len(started) <= 2 * 4 + 1


def test_batches_and_cores() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []
    assert cores() >= 1


def test_device_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="--device must be auto, cpu or cuda, got 'cudda'; did you mean 'cuda'"):
        choose_device("cudda")
    monkeypatch.setattr(device_module, "_driver_present", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(UsageError, match="--device cuda needs an NVIDIA GPU and its driver, none was found here"):
        choose_device("cuda")


def test_a_driver_is_not_enough_where_torch_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_driver_present", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(UsageError, match="none was found here"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda"
