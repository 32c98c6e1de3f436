"""What a search for the nearest pictures gives, in feature space and in pixel space."""

from __future__ import annotations

from dataclasses import dataclass

from graft.data.sources.scan import Problem
from graft.features.nearest import Metric, Precision


@dataclass(frozen=True)
class Space:
    """Where pictures are points: columns of a row in the store, and how their distance is measured."""

    name: str
    columns: slice
    metric: Metric

    @property
    def title(self) -> str:
        """As people read it."""
        return f"{self.name} space, {'L2' if self.metric == 'l2' else 'cosine'}"


@dataclass(frozen=True)
class Match:
    """A picture that was found. label: its class, or None in a folder without classes. distance: in its space."""

    path: str
    label: str | None
    distance: float


@dataclass(frozen=True)
class Ranking:
    """The pictures nearest to the query in one space, the nearest first."""

    space: Space
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class Quality:
    """How often neighbours share a class. at: for each space, precision at each k. queries: pictures that were one.

    chance: what neighbours drawn at random would reach, 0–1.
    """

    queries: int
    chance: float
    at: tuple[tuple[Space, tuple[Precision, ...]], ...]


@dataclass(frozen=True)
class Found:
    """What a search gave.

    pictures: how many were searched. root: the folder that holds them, which for a zip is gone by now. copies: those
    with the very bytes of the query, which are left out; label: their class, if they have one. rankings: feature space,
    then pixel space. quality: None in a folder without classes, or with too few pictures. problems: files set aside.
    """

    image: str
    folder: str
    root: str
    pictures: int
    copies: tuple[str, ...]
    label: str | None
    rankings: tuple[Ranking, ...]
    quality: Quality | None
    problems: tuple[Problem, ...]
