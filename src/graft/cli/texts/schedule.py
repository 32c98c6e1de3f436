"""What `graft schedule` prints: the course of a rate as rows and as blocks."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from graft.analysis.show import aligned
from graft.lessons.schedules import STEPS_PER_EPOCH, Curve
from graft.training.recipe.schedules import PLATEAU

_ROWS: Final = 15
_BAR: Final = 40  # characters
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def listed(curves: Sequence[Curve]) -> str:
    """A line for each schedule: its name, its course, what it does."""
    head = ("schedule", "rate over the run", "what it does")
    lines = aligned([head, *((each.name, spark(each.rates, 24), each.summary) for each in curves)], left=3)
    return "\n".join(line.rstrip() for line in lines)


def rows(one: Curve) -> str:
    """A schedule's formula and source, its course in one line, and its rate at some fifteen epochs."""
    epochs = len(one.epochs) // STEPS_PER_EPOCH
    every = math.ceil(epochs / _ROWS)
    places = [epoch * STEPS_PER_EPOCH for epoch in range(0, epochs, every)]
    if places[-1] != len(one.rates) - 1:
        places.append(len(one.rates) - 1)
    highest = max(one.rates)
    table = [("epoch", "rate", "")]
    table += [(f"{one.epochs[at]:g}", f"{one.rates[at]:.3g}", bar(one.rates[at] / highest)) for at in places]
    lines = [f"{one.name}: {one.summary}", one.formula, f"source: {one.source}", "", spark(one.rates, 60), ""]
    if one.name == PLATEAU:
        lines.insert(3, "drawn for a made-up loss that falls for a third of the run and then stays")
    width = [max(len(row[column]) for row in table) for column in (0, 1)]
    lines += [f"{row[0]:>{width[0]}}  {row[1]:>{width[1]}}  {row[2]}".rstrip() for row in table]
    return "\n".join(lines)


def spark(values: tuple[float, ...], width: int) -> str:
    """The course of values ≥ 0 in `width` characters, each the mean of its share; the highest is a full block."""
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    top = max(means)
    return "".join(_BLOCKS[math.ceil(8 * mean / top)] for mean in means)


def bar(share: float) -> str:
    """A horizontal bar of a share, 0–1, in eighths of a character."""
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def as_text(curves: tuple[Curve, ...], *, alone: bool) -> str:
    """For people: all about one schedule, or a line for each of several."""
    return rows(curves[0]) if alone else listed(curves)


def as_json(curves: tuple[Curve, ...], *, alone: bool) -> str:
    """For programs."""
    return json.dumps(asdict(curves[0]) if alone else [asdict(each) for each in curves], ensure_ascii=False)
