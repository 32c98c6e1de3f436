"""Nearest neighbours: by hand, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from graft.features.nearest import METRICS, Metric, all_nearest, chance, nearest, precision_at
from graft.features.rows import Rows

SQUARE = [[0, 0], [3, 4], [6, 8], [0, 1], [0, 0]]  # from the origin: 0, 5, 10, 1, 0


def rows(values: object) -> Rows:
    matrix = np.asarray(values, np.float32)
    return Rows(len(matrix), matrix.shape[1], lambda part: matrix[part])


def cloud(n: int, width: int = 24, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def test_distances_by_hand() -> None:
    found = nearest(rows(SQUARE), np.zeros(2, np.float32), 5, metric="l2")
    assert found.positions.tolist() == [0, 4, 3, 1, 2]  # the two at 0 in the order they stand in
    assert found.distances.tolist() == [0, 0, 1, 5, 10]


def test_cosine_by_hand() -> None:
    found = nearest(rows([[2, 0], [0, 3], [5, 5], [-1, 0], [0, 0]]), np.array([7, 0], np.float32), 5, metric="cosine")
    assert found.positions.tolist() == [0, 2, 4, 1, 3]  # zeros have no direction: between the diagonal and the upright
    np.testing.assert_allclose(found.distances, [0, 1 - np.sqrt(0.5), 0.5, 1, 2], atol=1e-6)


def test_what_is_left_out_is_not_found_and_there_may_be_fewer_than_asked_for() -> None:
    found = nearest(rows(SQUARE), np.zeros(2, np.float32), 9, metric="l2", left_out=np.array([0, 1]))
    assert found.positions.tolist() == [4, 3, 2]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [7, 3000])  # within one slice, and over several
def test_one_query_finds_what_scikit_learn_finds(metric: Metric, n: int) -> None:
    x, query = cloud(n), cloud(1, seed=1)[0]
    other = NearestNeighbors(n_neighbors=5, algorithm="brute", metric="euclidean" if metric == "l2" else "cosine")
    distances, positions = other.fit(x.astype(np.float64)).kneighbors(query[None].astype(np.float64))
    found = nearest(rows(x), query, 5, metric=metric)
    assert found.positions.tolist() == positions[0].tolist()
    np.testing.assert_allclose(found.distances, distances[0], rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_many_queries_find_what_scikit_learn_finds(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.features.nearest._QUERY_BYTES", 4 * 24 * 300)  # three blocks of queries
    x, queries = cloud(2000), np.arange(0, 2000, 2)[:800]
    other = NearestNeighbors(n_neighbors=7, algorithm="brute", metric="euclidean" if metric == "l2" else "cosine")
    _, positions = other.fit(x.astype(np.float64)).kneighbors(x[queries].astype(np.float64))
    found = all_nearest(rows(x), queries, np.arange(2000), 6, metric=metric)
    assert (positions[:, 0] == queries).all()  # it counts the query itself
    np.testing.assert_array_equal(found, positions[:, 1:])


def test_near_duplicates_are_never_neighbours() -> None:
    x = np.repeat(cloud(50), 2, axis=0)  # each twice
    found = all_nearest(rows(x), np.arange(100), np.arange(100) // 2, 3, metric="l2")
    assert not (found // 2 == np.arange(100)[:, None] // 2).any()
    once = all_nearest(rows(x[::2]), np.arange(50), np.arange(50), 2, metric="l2")
    np.testing.assert_array_equal(found[::2, :2], np.stack([2 * once[:, 0], 2 * once[:, 0] + 1], axis=1))


def test_asking_for_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be 1 to 2, the rows outside the largest group, got 3"):
        all_nearest(rows(cloud(5)), np.arange(5), np.array([0, 0, 0, 1, 2]), 3, metric="l2")


def test_precision_and_chance_by_hand() -> None:
    found = np.array([[1, 2], [0, 2], [3, 0], [2, 1]])  # of four pictures, two of each class
    labels, alone, queries = np.array([0, 0, 1, 1]), np.arange(4), np.arange(4)
    assert precision_at(found, queries, labels, alone, 1).share.value == 1
    assert precision_at(found, queries, labels, alone, 2).share.value == 0.5
    assert chance(queries, labels, alone) == pytest.approx(1 / 3)  # one of the other three
    assert chance(queries, labels, np.array([0, 0, 1, 2])) == pytest.approx((0 + 0 + 1 / 3 + 1 / 3) / 4)


def test_near_duplicates_widen_the_interval() -> None:
    found = np.array([[0]] * 20 + [[39]] * 20)
    labels, queries = np.array([0] * 30 + [1] * 10), np.arange(40)
    apart = precision_at(found, queries, labels, np.arange(40), 1).share
    pairs = precision_at(found, queries, labels, np.arange(40) // 2, 1).share
    assert apart.value == pairs.value == 0.75
    assert pairs.low < apart.low < apart.high < pairs.high
