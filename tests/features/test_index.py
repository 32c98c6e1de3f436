"""The index for large collections: what it names is compared exactly, and it is kept and told apart."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from graft.errors import GraftError
from graft.features.index import nearest_by_index
from graft.features.nearest import METRICS, Metric, nearest
from graft.features.rows import Rows


def cloud(n: int, seed: int = 0) -> Rows:
    matrix = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return Rows(n, 8, lambda part: matrix[part])


@pytest.mark.parametrize("metric", METRICS)
def test_it_finds_what_comparing_all_finds(metric: Metric, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    rows, file, left_out = cloud(1000), tmp_path / "indexes" / "one.usearch", np.array([3, 500])
    for query in cloud(20, seed=1).read(slice(None)):
        found = nearest_by_index(rows, query, 5, metric=metric, file=file, left_out=left_out)
        exact = nearest(rows, query, 5, metric=metric, left_out=left_out)
        np.testing.assert_array_equal(found.positions, exact.positions)
        np.testing.assert_array_equal(found.distances, exact.distances)
    assert [path.name for path in file.parent.iterdir()] == ["one.usearch"]


def test_it_is_built_once_and_another_collections_index_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    file, query = tmp_path / "one.usearch", np.zeros(8, np.float32)
    nearest_by_index(cloud(300), query, 3, metric="l2", file=file)
    written = file.stat().st_ino
    nearest_by_index(cloud(300), query, 3, metric="l2", file=file)
    assert file.stat().st_ino == written
    with pytest.raises(GraftError, match="not an index of these pictures; delete it"):
        nearest_by_index(cloud(301), query, 3, metric="l2", file=file)


def test_the_indexes_used_last_are_kept_and_others_are_not(tmp_path: Path) -> None:
    pytest.importorskip("usearch")

    def search(number: int) -> None:
        nearest_by_index(cloud(30, seed=number), np.zeros(8, np.float32), 3, metric="l2", file=file(number))

    def file(number: int) -> Path:
        return tmp_path / f"{number}.usearch"

    for number in range(4):
        search(number)
        os.utime(file(number), (number, number))
    search(0)  # now the one used last
    search(4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [file(number).name for number in (0, 2, 3, 4)]


def test_without_the_library_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(GraftError, match=r"usearch is not installed; pip install 'graft\[search\]'$") as caught:
        nearest_by_index(cloud(9), np.zeros(8, np.float32), 3, metric="l2", file=tmp_path / "one.usearch")
    assert "\n" not in str(caught.value)
