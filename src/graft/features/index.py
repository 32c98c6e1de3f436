"""An index for collections that are too large to be compared one by one: built once, kept in the cache, then mapped.

The index is usearch's graph of neighbours [1], an optional dependency: its file is memory-mapped, so that memory holds
what a search touches. It names candidates, and these are compared exactly; what it can do wrong is to miss some.

[1] Malkov, Yashunin, Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
    graphs, arXiv:1603.09320, 2016.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from graft.disk.cache import unwritable
from graft.disk.files import whole_file
from graft.errors import GraftError, shown
from graft.features.nearest import Floats, Ints, Metric, Neighbours, nearest, placed
from graft.features.rows import Rows
from graft.progress import Progress, silent
from graft.runtime.stream import cores

if TYPE_CHECKING:
    from usearch.index import Index

EXACT_UP_TO: Final = 100_000
"""Pictures that are compared one by one: beyond, an index pays."""

SUFFIX: Final = ".usearch"
_CANDIDATES: Final = 8  # compared exactly, for each neighbour asked for
_EFFORT: Final = 256  # nodes of the graph that a search keeps in view, at the least
_BATCH: Final = 4096  # rows that are added at a time
_KEPT: Final = 4  # indexes in a folder, each about as large as the features that it stands for


def nearest_by_index(
    rows: Rows,
    query: Floats,
    k: int,
    *,
    metric: Metric,
    file: Path,
    left_out: Ints | None = None,
    progress: Progress = silent,
) -> Neighbours:
    """What `graft.features.nearest.nearest` gives, but for a few that may be missed; without reading all rows.

    file: where the index of exactly these rows and this metric lies, or shall lie.
    Raises GraftError where usearch is not installed, or the file cannot be written or read.
    """
    hidden = np.empty(0, np.int64) if left_out is None else left_out
    index = _opened(rows, metric, file, progress)
    wanted = min(rows.count, _CANDIDATES * k + len(hidden))
    index.expansion_search = max(_EFFORT, wanted)  # type: ignore[misc]  # its setter has no annotation
    matches = index.search(placed(query[None], metric)[0], wanted)
    candidates = np.setdiff1d(np.asarray(matches.keys, np.int64), hidden)  # sorted: ties keep the rows' order
    few = rows.read(candidates)
    found = nearest(Rows(len(few), rows.width, lambda part: few[part]), query, k, metric=metric)
    return Neighbours(candidates[found.positions], found.distances)


def _opened(rows: Rows, metric: Metric, file: Path, progress: Progress) -> Index:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise GraftError(
            f"{rows.count:,} pictures need an index to be searched (graft compares up to {EXACT_UP_TO:,} one by one), "
            "and usearch is not installed; pip install 'graft[search]'"
        ) from error
    if not file.is_file():
        _build(rows, metric, file, progress)
    with contextlib.suppress(OSError):
        file.touch()  # those unused for longest are the first to go
    index = Index.restore(file, view=True)
    if index is None or len(index) != rows.count or index.ndim != rows.width:
        raise GraftError(f"{shown(file)} is not an index of these pictures; delete it and try again")
    return index


def _build(rows: Rows, metric: Metric, file: Path, progress: Progress) -> None:
    """Write the index under another name and rename it, so that it is whole or not there."""
    from usearch.index import Index

    index = Index(ndim=rows.width, metric="l2sq", dtype="f16")
    for start in range(0, rows.count, _BATCH):
        stop = min(start + _BATCH, rows.count)
        x = placed(rows.read(slice(start, stop)), metric)
        threads = cores() if start else 1  # rows that join a near-empty graph at once may never be found again
        index.add(np.arange(start, stop, dtype=np.uint64), x, threads=threads)
        progress("building the index (once)", stop, rows.count)
    try:
        with whole_file(file) as partial:
            index.save(partial)
        _forget(file.parent)
    except (OSError, RuntimeError) as error:  # usearch raises the latter for a full disk
        raise unwritable(file.parent, error) from error


def _forget(folder: Path) -> None:
    """Leave the indexes that were used last; a search that has another one open goes on reading it."""
    known = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in known[_KEPT:]:
        path.unlink(missing_ok=True)
