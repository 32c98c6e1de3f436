"""The index of `graft search` beside the exact search: what it misses, what it takes to build, how long a search is.

python -m benchmarks.index [samples]        (120,000 features in 1,000 classes: a few minutes on two cores)

The features are drawn from real ones (drawn_features.py), the queries are new samples. Recall is the share of the ten
nearest, as the exact search has them, that the index finds.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.drawn_features import Floats, stored
from benchmarks.machine import keep
from benchmarks.whole_run import peak_mib
from graft.features.index import nearest_by_index
from graft.features.nearest import Neighbours, nearest

K = 10
QUERIES, CLASSES = 200, 1_000


def main() -> None:
    """Fill a store, search it in both ways, and keep what it took."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 120_000
    with tempfile.TemporaryDirectory() as folder:
        rows, _, draw = stored(Path(folder), samples, CLASSES)
        queries = draw(np.arange(QUERIES) * 7 % CLASSES)
        file, before, started = Path(folder) / "index.usearch", peak_mib(os.getpid()), time.perf_counter()
        nearest_by_index(rows, queries[0], K, metric="cosine", file=file)
        build = time.perf_counter() - started

        def by_index(query: Floats) -> Neighbours:
            return nearest_by_index(rows, query, K, metric="cosine", file=file)

        def exactly(query: Floats) -> Neighbours:
            return nearest(rows, query, K, metric="cosine")

        index_seconds, found = _timed(by_index, queries)
        exact_seconds, expected = _timed(exactly, queries)
        megabytes = file.stat().st_size / 1e6
    shares = [len(np.intersect1d(a.positions, b.positions)) / K for a, b in zip(found, expected, strict=True)]
    result = {
        "samples": samples,
        "queries": QUERIES,
        "recall_at_10": round(statistics.mean(shares), 4),
        "queries_with_a_miss": sum(share < 1 for share in shares),
        "build_seconds": round(build, 1),
        "index_mb": round(megabytes),
        "peak_mib": round(peak_mib(os.getpid())),
        "peak_before_mib": round(before),
        "index_seconds_a_query": round(index_seconds, 4),
        "exact_seconds_a_query": round(exact_seconds, 3),
    }
    keep("index", {str(samples): result})


def _timed(search: Callable[[Floats], Neighbours], queries: Floats) -> tuple[float, list[Neighbours]]:
    """The median of the seconds of a query, and what each found."""
    seconds, found = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(search(query))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), found


if __name__ == "__main__":
    main()
