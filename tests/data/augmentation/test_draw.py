"""Draws: the published numbers of the generator, and what a training run rests on."""

from __future__ import annotations

import numpy as np
import pytest

from graft.data.augmentation.draw import CUTMIX_STREAM, MIXUP_STREAM, ORDER_STREAM, _philox, order, uniforms

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),  # the digits of π
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_words_that_its_authors_published(
    counter: tuple[int, ...], key: tuple[int, int], words: str
) -> None:
    drawn = _philox(tuple(np.array([word], np.uint64) for word in counter), key)
    assert " ".join(f"{int(word[0]):08x}" for word in drawn) == words


def test_a_uniform_is_27_and_26_bits_of_two_words() -> None:
    first, second = 0x6627E8D5, 0xE169C58D  # of counter 0 and key 0, as above
    expected = ((first >> 5) * 2**26 + (second >> 6)) / 2**53
    assert uniforms(0, 0, np.array([0]), 0, 1)[0, 0] == expected


def test_a_sample_gets_the_same_numbers_wherever_it_stands_and_however_many_are_drawn() -> None:
    samples = np.random.default_rng(0).permutation(5000)[:300]
    together = uniforms(7, 3, samples, 2, 5)
    alone = np.concatenate([uniforms(7, 3, np.array([sample]), 2, 5) for sample in samples])
    assert np.array_equal(together, alone)
    assert np.array_equal(together[:, :3], uniforms(7, 3, samples, 2, 3))


def test_seed_epoch_sample_and_stream_each_change_all_numbers() -> None:
    samples = np.arange(100)
    drawn = np.stack([
        uniforms(0, 0, samples, 0, 4), uniforms(1, 0, samples, 0, 4), uniforms(2**32, 0, samples, 0, 4),
        uniforms(0, 1, samples, 0, 4), uniforms(0, 0, samples, 1, 4), uniforms(0, 0, samples + 100, 0, 4),
    ])  # fmt: skip
    assert len(np.unique(drawn)) == drawn.size


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    u = uniforms(1, 1, np.arange(100_000), 0, 4)
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.stack([np.histogram(column, bins=100, range=(0, 1))[0] for column in u.T])
    chi_square = ((counts - 1000) ** 2 / 1000).sum(axis=1)
    assert (chi_square < 149).all()  # the 99.9 % point of χ² with 99 degrees
    neighbours = [np.corrcoef(u[:, i], u[:, j])[0, 1] for i in range(4) for j in range(i)]
    serial = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert np.abs([*neighbours, serial]).max() < 4 / np.sqrt(100_000)


def test_order_is_a_permutation_that_every_epoch_draws_anew() -> None:
    orders = [order(5, epoch, 1000) for epoch in range(3)]
    assert all(np.array_equal(np.sort(each), np.arange(1000)) for each in orders)
    assert np.array_equal(orders[0], order(5, 0, 1000))
    assert max((orders[0] == orders[1]).sum(), (orders[1] == orders[2]).sum()) < 10  # 1 is expected
    assert order(5, 0, 0).tolist() == []


def test_each_order_of_three_is_equally_likely() -> None:
    seen = [tuple(order(seed, 0, 3).tolist()) for seed in range(3000)]
    counts = np.array([seen.count(each) for each in set(seen)])
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # the 99.9 % point of χ² with 5 degrees


def test_streams_are_apart() -> None:
    assert len({ORDER_STREAM, MIXUP_STREAM, CUTMIX_STREAM}) == 3
    assert min(ORDER_STREAM, MIXUP_STREAM, CUTMIX_STREAM) > 2**31  # far from places in a policy


@pytest.mark.parametrize(
    ("seed", "epoch", "sample", "stream", "count", "what"),
    [
        (-1, 0, 0, 0, 1, "seed"), (2**64, 0, 0, 0, 1, "seed"), (0, -1, 0, 0, 1, "epoch"),
        (0, 0, -1, 0, 1, "samples"), (0, 0, 2**32, 0, 1, "samples"), (0, 0, 0, 2**32, 1, "stream"),
        (0, 0, 0, 0, -1, "count"),
    ],
)  # fmt: skip
def test_values_outside_the_counter_are_refused(
    seed: int, epoch: int, sample: int, stream: int, count: int, what: str
) -> None:
    with pytest.raises(ValueError, match=f"{what} must be at least 0"):
        uniforms(seed, epoch, np.array([sample]), stream, count)


def test_samples_must_be_whole_numbers_in_a_row() -> None:
    with pytest.raises(ValueError, match=r"samples must be whole numbers \(n,\), got float64 \(3,\)"):
        uniforms(0, 0, np.zeros(3), 0, 1)  # type: ignore[arg-type]
