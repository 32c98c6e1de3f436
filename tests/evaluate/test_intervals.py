"""Intervals against published values, an independent solver, and the coverage over 2,000 simulated test sets each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from graft.evaluate.intervals import (
    Interval,
    Z,
    balanced,
    effective_number,
    grouped_proportion,
    mean_of_proportions,
    paired_difference,
    proportion,
    share_of,
    tango,
    wilson,
)

SETS = 2_000
COVERAGE = (0.93, 0.97)
ACCURACIES = [(0.5, 1.0), (0.9, 1.0), (0.97, 1.0)]


def held(low: NDArray[np.float64], high: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """The share of simulated sets whose interval holds the truth."""
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_the_published_table(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe, Stat. Med. 17 (1998) 857, table I, method 3."""
    interval = proportion(successes, n)
    assert interval.value == successes / n
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_a_proportion_of_nothing_is_unknown() -> None:
    interval = proportion(0, 0)
    assert math.isnan(interval.value)
    assert (interval.low, interval.high) == (0.0, 1.0)
    assert interval.percent() == "nothing to measure"


def test_all_right_reaches_one_and_all_wrong_reaches_zero() -> None:
    assert proportion(7, 7).high == 1.0
    assert proportion(0, 7).low == 0.0


def test_percent_reads_as_printed() -> None:
    assert Interval(0.8861, 0.8555, 0.9108).percent() == "88.6 % (85.5–91.1)"


@pytest.mark.parametrize(("successes", "n"), [(5, 4), (-1, 4)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        proportion(successes, n)


@pytest.mark.parametrize("n", [10, 20, 30, 50, 200, 505])
@pytest.mark.parametrize("accuracies", ACCURACIES)
def test_coverage_of_a_proportion(n: int, accuracies: tuple[float, float]) -> None:
    rng = np.random.default_rng(7)
    truth = rng.uniform(*accuracies, SETS)
    low, high = wilson(rng.binomial(n, truth) / n, n)
    assert COVERAGE[0] <= held(low, high, truth) <= COVERAGE[1]


@pytest.mark.parametrize(("n", "accuracy"), [(100, 0.8), (200, 0.9), (505, 0.886), (1000, 0.97), (5000, 0.995)])
def test_coverage_at_a_fixed_accuracy(n: int, accuracy: float) -> None:
    rng = np.random.default_rng(8)
    low, high = wilson(rng.binomial(n, accuracy, SETS) / n, n)
    assert COVERAGE[0] <= held(low, high, np.full(SETS, accuracy)) <= COVERAGE[1]


def test_the_simulation_finds_a_poor_interval_out() -> None:
    """The textbook's p ± z·sqrt(p(1 − p)/n) must fail where ours pass."""
    rng = np.random.default_rng(7)
    truth = rng.uniform(0.9, 1.0, SETS)
    p = rng.binomial(20, truth) / 20
    half = Z * np.sqrt(p * (1 - p) / 20)
    assert held(p - half, p + half, truth) < 0.75


def test_the_mean_of_one_proportion_is_that_proportion() -> None:
    mean = balanced([17], [23])
    alone = proportion(17, 23)
    assert (mean.value, mean.low, mean.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-12)


def test_a_class_without_pictures_is_left_out_of_the_mean() -> None:
    assert balanced([3, 0, 8], [4, 0, 8]) == balanced([3, 8], [4, 8])
    nothing = balanced([0, 0], [0, 0])
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


@pytest.mark.parametrize("classes", [2, 6, 30, 200])
@pytest.mark.parametrize("sizes", [(10, 10), (10, 50), (20, 200)])
@pytest.mark.parametrize("recalls", ACCURACIES)
def test_coverage_of_balanced_accuracy(classes: int, sizes: tuple[int, int], recalls: tuple[float, float]) -> None:
    rng = np.random.default_rng(9)
    n = rng.integers(sizes[0], sizes[1] + 1, (SETS, classes))
    centre = rng.uniform(*recalls, (SETS, 1))
    recall = np.clip(centre + rng.uniform(-0.5, 0.5, (SETS, classes)) * (1 - centre), 0, 1)
    _, low, high = mean_of_proportions(rng.binomial(n, recall), n)
    assert COVERAGE[0] <= held(low, high, recall.mean(-1)) <= COVERAGE[1]


def constrained_score(delta: float, b: int, c: int, n: int) -> float:
    """Tango's statistic with the constrained likelihood maximised numerically instead of by his formula."""

    def minus_log_likelihood(q: float) -> float:  # q: the probability that only the second is right
        rest = 1 - 2 * q - delta
        return -(b * math.log(q + delta) + c * math.log(q) + (n - b - c) * math.log(rest))

    edge = 1e-12
    bounds = (max(0.0, -delta) + edge, (1 - delta) / 2 - edge)
    q = minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x
    return float((b - c - n * delta) / math.sqrt(n * (2 * q + delta - delta**2)))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 4, 60), (3, 9, 25), (40, 38, 505), (1, 6, 200)])
def test_tango_agrees_with_an_independent_solver(b: int, c: int, n: int) -> None:
    low, high = tango(b, c, n)
    difference = (b - c) / n
    assert low == pytest.approx(brentq(lambda d: constrained_score(d, b, c, n) - Z, -0.9, difference), abs=1e-5)
    assert high == pytest.approx(brentq(lambda d: constrained_score(d, b, c, n) + Z, difference, 0.9), abs=1e-5)


def test_two_models_that_never_differ() -> None:
    """Without a discordant pair the score interval is ± z²/(n + z²), as solving the quadratic shows."""
    right = np.array([True] * 30 + [False] * 10)
    edge = Z**2 / (40 + Z**2)
    difference = paired_difference(right, right)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.0, -edge, edge), abs=1e-9)


def test_a_swap_of_models_mirrors_the_difference() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(90) < 0.9, rng.random(90) < 0.7
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.value == pytest.approx(a.mean() - b.mean())
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)


def test_unpaired_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        paired_difference(np.ones(3, bool), np.ones(4, bool))


@pytest.mark.parametrize(
    ("n", "differing"), [(50, (0.1, 0.6)), (100, (0.05, 0.3)), (505, (0.02, 0.1)), (2000, (0.02, 0.6))]
)
def test_coverage_of_a_paired_difference(n: int, differing: tuple[float, float]) -> None:
    rng = np.random.default_rng(10)
    either = rng.uniform(*differing, SETS)
    only_a = either * rng.uniform(0.2, 0.8, SETS)
    counts = rng.multinomial(n, np.stack([only_a, either - only_a, 1 - either], -1))
    low, high = tango(counts[:, 0], counts[:, 1], n)
    assert COVERAGE[0] <= held(low, high, 2 * only_a - either) <= COVERAGE[1]


def test_singletons_count_in_full() -> None:
    right = np.array([True, False, True, True])
    assert effective_number(right, np.arange(4)) == 4
    assert grouped_proportion(right, np.arange(4)) == proportion(3, 4)


def test_exact_duplicates_count_once() -> None:
    right = np.repeat(np.array([True, True, False, True, False]), 2)  # five pictures, each there twice
    assert effective_number(right, np.repeat(np.arange(5), 2)) == pytest.approx(5)


def test_groups_that_do_not_agree_count_nearly_in_full() -> None:
    """Worked by hand: pairs of one right and one wrong have correlation −1, drawn to (−(5 + 2) + 2)/(5 + 4) < 0."""
    right = np.array([True, False] * 5)
    assert effective_number(right, np.repeat(np.arange(5), 2)) == 10


def test_without_a_mistake_a_group_is_taken_for_one_picture() -> None:
    """Σm²/Σm = (9 + 1 + 1)/5 = 2.2, so five pictures count for 5/2.2."""
    assert effective_number(np.ones(5), np.array(["a", "a", "a", "b", "c"])) == pytest.approx(5 / 2.2)


def test_one_mistake_says_little_about_how_mistakes_cluster() -> None:
    """By hand: residuals 1/6 five times and −5/6, products −1/6 over 6 ordered pairs, variance 5/36, so r = −0.2;
    drawn towards 1 it is (−0.2 · 3 + 2)/5 = 0.28, and six pictures count for 6/1.28."""
    right = np.array([True, True, True, True, True, False])
    assert effective_number(right, np.repeat(np.arange(3), 2)) == pytest.approx(6 / 1.28)


def test_groups_must_fit_the_pictures() -> None:
    with pytest.raises(ValueError, match=r"got \(2,\) for \(3,\)"):
        effective_number(np.ones(3), np.zeros(2))


@pytest.mark.parametrize("correlation", [0.3, 0.8])
@pytest.mark.parametrize("groups", [60, 200])
def test_coverage_with_near_duplicates(groups: int, correlation: float) -> None:
    """Groups of one to six pictures that are right together; the plain interval must fail on the same sets."""
    rng = np.random.default_rng(11)
    spread = (1 - correlation) / correlation
    truth = rng.uniform(0.5, 0.97, SETS)
    grouped, plain = np.empty((SETS, 2)), np.empty((SETS, 2))
    for i, p in enumerate(truth):
        group = np.repeat(np.arange(groups), rng.integers(1, 7, groups))
        correct = rng.random(len(group)) < rng.beta(p * spread, (1 - p) * spread, groups)[group]
        a, b = grouped_proportion(correct, group), proportion(int(correct.sum()), len(correct))
        grouped[i], plain[i] = (a.low, a.high), (b.low, b.high)
    assert COVERAGE[0] <= held(grouped[:, 0], grouped[:, 1], truth) <= COVERAGE[1]
    assert held(plain[:, 0], plain[:, 1], truth) < 0.9


def test_coverage_of_a_paired_difference_with_near_duplicates() -> None:
    """Each group is judged alike throughout: a group's pictures are all right, or all wrong, under either model."""
    rng = np.random.default_rng(12)
    low, high, truth = np.empty(SETS), np.empty(SETS), np.empty(SETS)
    for i in range(SETS):
        only_a, only_b = rng.uniform(0.05, 0.25, 2)
        group = np.repeat(np.arange(80), rng.integers(1, 4, 80))
        outcome = rng.choice(3, 80, p=[only_a, only_b, 1 - only_a - only_b])[group]
        difference = paired_difference(outcome != 1, outcome != 0, group)
        low[i], high[i], truth[i] = difference.low, difference.high, only_a - only_b
    assert COVERAGE[0] <= held(low, high, truth) <= COVERAGE[1]


def test_share_of_takes_a_number_that_is_not_whole() -> None:
    """Between the intervals of the whole numbers beside it."""
    between, fewer, more = share_of(0.8, 12.5), share_of(0.8, 12), share_of(0.8, 13)
    assert fewer.low < between.low < more.low
    assert fewer.high > between.high > more.high


def test_a_difference_in_points() -> None:
    assert Interval(0.033, 0.021, 0.045).points() == "+3.3 points (95 % interval +2.1 to +4.5)"
    assert Interval(-0.01, -0.02, 0.0).points() == "-1.0 points (95 % interval -2.0 to +0.0)"
