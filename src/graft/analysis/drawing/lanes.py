"""Where a network's graph is drawn: one layer a line, from the picture down, branches side by side in lanes.

Each layer stands on a line of its own, so that a table can stand beside the graph; an edge that passes other layers
runs down a lane that is free on all those lines.
"""

from __future__ import annotations

from dataclasses import dataclass

from graft.analysis.table import PICTURE, Analysis


@dataclass(frozen=True)
class Edge:
    """From one line to a later one, down `lane` in between. Lines are row numbers; PICTURE stands above the first."""

    source: int
    target: int
    lane: int


@dataclass(frozen=True)
class Layout:
    """lanes: that of each row. edges: all of them, those that share a source and a lane being one line."""

    lanes: tuple[int, ...]
    edges: tuple[Edge, ...]

    @property
    def width(self) -> int:
        """How many lanes are in use."""
        return 1 + max((*self.lanes, *(edge.lane for edge in self.edges)), default=0)


def lay_out(analysis: Analysis) -> Layout:
    """Lanes for an analysis' rows and edges.

    A layer goes on in the lane of the layer it reads; a branch opens the first lane that is free all the way to its
    first layer; a sum or concatenation takes the leftmost of the lanes that meet in it; a skip gets a lane of its own.
    """
    readers: dict[int, list[int]] = {}
    for i, layer in enumerate(analysis.layers):
        for source in layer.inputs:
            readers.setdefault(source, []).append(i)
    lanes: dict[int, int] = {PICTURE: 0}
    taken = _Taken()
    skips: dict[int, int] = {}  # the lane in which a row's output goes down to later readers
    edges: list[Edge] = []
    _reserve(PICTURE, readers, analysis, lanes, skips, taken)
    for i, layer in enumerate(analysis.layers):
        ends = {s: _channel(s, i, readers, lanes, skips) for s in layer.inputs}
        end = max(i, readers[i][0] - 1) if i in readers else i  # its output stays in its lane up to there
        arriving = sorted(lane for lane in ends.values() if lane is not None)
        free = [lane for lane in arriving if taken.is_free(lane, i, end)]
        opens = min((s for s, lane in ends.items() if lane is None), default=i - 1)  # where a branch leaves its trunk
        lanes[i] = free[0] if free else taken.first_free(opens + 1, end)
        edges += [Edge(s, i, lane if lane is not None else lanes[i]) for s, lane in ends.items()]
        taken.take(lanes[i], opens + 1, i)
        _reserve(i, readers, analysis, lanes, skips, taken)
    return Layout(tuple(lanes[i] for i in range(len(analysis.layers))), tuple(edges))


def _reserve(
    row: int,
    readers: dict[int, list[int]],
    analysis: Analysis,
    lanes: dict[int, int],
    skips: dict[int, int],
    taken: _Taken,
) -> None:
    """Keep free the lanes in which a row's output goes down: its own to the first reader, another to later sums."""
    to = readers.get(row, [])
    if not to:
        return
    if to[0] > row + 1:
        taken.take(lanes[row], row + 1, to[0] - 1)
    if any(len(analysis.layers[reader].inputs) > 1 for reader in to[1:]):
        skips[row] = taken.first_free(row + 1, to[-1], besides=lanes[row])
        taken.take(skips[row], row + 1, to[-1] - 1)


def _channel(
    source: int, target: int, readers: dict[int, list[int]], lanes: dict[int, int], skips: dict[int, int]
) -> int | None:
    """The lane in which an edge comes down, or None when it opens a new one at its target."""
    if readers[source][0] == target:
        return lanes[source]
    return skips.get(source)


class _Taken:
    """Which lanes are in use on which lines."""

    def __init__(self) -> None:
        self._lines: list[set[int]] = []

    def is_free(self, lane: int, first: int, last: int) -> bool:
        """Whether nothing is in a lane from line `first` to line `last`."""
        return lane >= len(self._lines) or self._lines[lane].isdisjoint(range(first, last + 1))

    def first_free(self, first: int, last: int, *, besides: int = -1) -> int:
        """The leftmost lane that is free on all lines, other than `besides`."""
        lane = 0
        while lane == besides or not self.is_free(lane, first, last):
            lane += 1
        return lane

    def take(self, lane: int, first: int, last: int) -> None:
        """Use a lane from line `first` to line `last`."""
        while lane >= len(self._lines):
            self._lines.append(set())
        self._lines[lane].update(range(first, last + 1))
