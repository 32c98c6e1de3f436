"""What an epoch's steps are made of, and preparing their batches ahead."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch

from graft.data.augmentation.augment import policy
from graft.training.loop import batches
from graft.training.loop.batches import ahead, epoch_steps, preparing_pool, shard, split
from graft.training.loop.pictures import from_array
from graft.training.loop.source import Batching
from graft.training.recipe.normalize import Normalization, channel_statistics

RANDOM = np.random.default_rng(0)
PICTURES = from_array(RANDOM.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8), RANDOM.integers(0, 4, 60))


def test_an_epoch_takes_every_picture_once_in_steps_of_nearly_one_size() -> None:
    steps = epoch_steps(0, 1, 103, 10)
    assert sorted(np.concatenate(steps).tolist()) == list(range(103))
    assert sorted(len(step) for step in steps) == [9] * 7 + [10] * 4
    assert [step.tolist() for step in steps] != [step.tolist() for step in epoch_steps(0, 2, 103, 10)]


def test_shards_part_a_step_among_processes() -> None:
    order = np.array([5, 3, 8, 1, 9, 2, 7])
    assert [shard(order, rank, 3).tolist() for rank in range(3)] == [[5, 1, 7], [3, 9], [8, 2]]


def test_split_keeps_the_order() -> None:
    assert [part.tolist() for part in split(np.arange(7), 3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert len(split(np.arange(6), 6)) == 1


def test_a_prepared_batch_is_the_pictures_scaled_and_normalised() -> None:
    batching = Batching(Normalization(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)), classes=4, seed=0)
    wanted = np.array([4, 0, 59])
    batch = PICTURES.batch(wanted, batching=batching, epoch=0)
    expected = (PICTURES.read(wanted) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(batch.x.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert batch.target.tolist() == PICTURES.labels[wanted].tolist()
    assert batch.x.is_contiguous(memory_format=torch.channels_last)


def test_a_picture_is_augmented_alike_in_any_batch_and_anew_in_each_epoch() -> None:
    batching = Batching(channel_statistics(PICTURES), classes=4, seed=3, policy=policy("standard"))
    many = PICTURES.batch(np.arange(20), batching=batching, epoch=5).x
    few = PICTURES.take(np.arange(10, 20)).batch(np.array([4, 2]), batching=batching, epoch=5).x
    torch.testing.assert_close(few, many[[14, 12]], rtol=0, atol=1e-6)
    assert (PICTURES.batch(np.arange(20), batching=batching, epoch=6).x - many).abs().max() > 0.1


def test_mixing_turns_labels_into_shares() -> None:
    batching = Batching(channel_statistics(PICTURES), classes=4, seed=0, mixing=("mixup", 0.4))
    target = PICTURES.batch(np.arange(30), batching=batching, epoch=0).target
    assert target.shape == (30, 4)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(30))
    assert ((target > 0.01) & (target < 0.99)).any()
    assert PICTURES.batch(np.arange(30), batching=batching.plain(), epoch=0).target.dtype == torch.int64


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_do_not_depend_on_the_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batching = Batching(
        channel_statistics(PICTURES), classes=4, seed=0, policy=policy("strong"), mixing=("cutmix", 1.0)
    )
    parts = split(np.arange(60), 7)
    torch.set_num_threads(1)
    alone = [PICTURES.batch(part, batching=batching, epoch=0) for part in parts]
    torch.set_num_threads(2)
    monkeypatch.setattr(batches, "THREADS", threads)
    with preparing_pool() as pool:
        together = list(ahead(partial(PICTURES.batch, batching=batching, epoch=0), parts, pool))
    assert torch.get_num_threads() == 2  # the caller's own number is left as it was
    torch.set_num_threads(1)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.target, other.target)


def test_ahead_keeps_the_order_and_prepares_no_more_than_a_few() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def make(part: batches.Positions) -> int:
        with lock:
            begun.append(int(part[0]))
        time.sleep(0.02 if part[0] % 2 == 0 else 0.0)
        return int(part[0])

    with preparing_pool() as pool:
        made = ahead(make, [np.array([number]) for number in range(12)], pool)
        first = next(made)
        time.sleep(0.1)
        assert len(begun) <= 1 + batches.AHEAD
        assert [first, *made] == list(range(12))


def test_an_error_while_preparing_reaches_who_waits() -> None:
    def make(_part: batches.Positions) -> int:
        raise OSError("the disk is gone")

    with preparing_pool() as pool, pytest.raises(OSError, match="the disk is gone"):
        next(ahead(make, [np.array([0])], pool))
