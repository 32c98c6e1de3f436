"""Whether a network suits a folder's pictures: what each stage sees of them, and a sentence where they do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from graft.analysis.show import aligned, square
from graft.analysis.table import Analysis, Pair, Stage, stages

_BLURRED: Final = 1.5  # enlarged more than this, a picture has no detail for the first layers to see
_THINNED: Final = 4.0  # reduced more than this, things that show in the picture may be gone


@dataclass(frozen=True)
class StageFit:
    """One stage beside the pictures.

    field and stride: in pixels of the network's input, rows and columns. own_field, own_stride: the same in pixels of
    the median picture before it is resized. share: of the input's shorter side that one position sees, at most 1.
    """

    stage: str
    output_shape: tuple[int, ...]
    field: Pair
    stride: tuple[float, float]
    own_field: float
    own_stride: float
    share: float


@dataclass(frozen=True)
class Fit:
    """A network against pictures. picture: their median (height, width). sentences: empty when nothing is amiss."""

    picture: Pair
    scale: float
    stages: tuple[StageFit, ...]
    sentences: tuple[str, ...]


def fit_to_pictures(analysis: Analysis, sizes: Sequence[Pair], *, names: Sequence[str] = ()) -> Fit:
    """What the stages of a network see of pictures that are resized to its input by their shorter side.

    sizes: (height, width) of each picture, pixels. names: stages as dotted prefixes of layers, all parts when empty.
    Raises ValueError without sizes, or with a side below 1.
    """
    if not sizes or min(min(size) for size in sizes) < 1:
        raise ValueError(f"sizes must be pairs (height, width) of at least 1 pixel, got {list(sizes)[:3]}")
    picture = round(median(h for h, _ in sizes)), round(median(w for _, w in sizes))
    side, own = min(analysis.input_shape[-2:]), median(min(size) for size in sizes)
    scale = side / own
    table = tuple(_stage_fit(stage, side, scale) for stage in stages(analysis, names) if stage.field is not None)
    return Fit(picture, scale, table, tuple(_sentences(table, side, own, scale)))


def _stage_fit(stage: Stage, side: int, scale: float) -> StageFit:
    assert stage.field is not None
    rows, columns = stage.field.rows, stage.field.columns
    field = stage.field.size
    return StageFit(
        stage=stage.name,
        output_shape=stage.output_shape,
        field=field,
        stride=(float(rows.jump), float(columns.jump)),
        own_field=min(field) / scale,
        own_stride=float(min(rows.jump, columns.jump)) / scale,
        share=min(1.0, min(field) / side),
    )


def _sentences(table: Sequence[StageFit], side: int, own: float, scale: float) -> list[str]:
    found = []
    maps = [stage for stage in table if len(stage.output_shape) == 3 and math.prod(stage.output_shape[1:]) > 1]
    if scale > _BLURRED:
        blind = [stage.stage for stage in maps if stage.own_field < 3]
        see = f"; {', '.join(blind)} see less than 3 of its own pixels, too few for a pattern" if blind else ""
        found.append(
            f"the median picture's shorter side is {own:g} pixels and is enlarged {scale:.1f} times to {side}{see}: "
            f"use a network with an input near {own:g}, or larger pictures"
        )
    if 1 / scale > _THINNED:
        found.append(
            f"the median picture's shorter side is {own:g} pixels and is reduced {1 / scale:.1f} times to {side}: what "
            f"is smaller than {math.ceil(1 / scale)} pixels of it is gone; crop to the object, or use a larger input"
        )
    if maps and maps[-1].share < 1:
        last = maps[-1]
        found.append(
            f"one position of {last.stage}, the last map, sees {square(last.field)} of {side} pixels "
            f"({last.own_field:.0f} of {own:g} in the picture): an object larger than that is only seen in parts"
        )
    early = next((stage for stage in maps if stage.share >= 1), None)
    if early is not None and early is not maps[-1] and maps.index(early) < len(maps) / 2:
        found.append(
            f"from {early.stage} on, one position sees the whole picture: the {len(maps) - maps.index(early) - 1} "
            f"stages above add depth but no further view; a larger --input would give them one"
        )
    return found


def fit_text(fit: Fit) -> str:
    """The comparison for a terminal: a row a stage, then the sentences."""
    head = ("stage", "map", "field", "stride", "field in the picture", "stride in it", "sees")
    rows = [head] + [
        (
            stage.stage,
            "×".join(str(s) for s in stage.output_shape),
            square(stage.field),
            square(stage.stride),
            f"{stage.own_field:.1f}",
            f"{stage.own_stride:.1f}",
            f"{stage.share:.0%}",
        )
        for stage in fit.stages
    ]
    height, width = fit.picture
    title = f"median picture {height}×{width} pixels, scaled by {fit.scale:.2f}; fields and strides in pixels"
    return "\n".join([title, "", *aligned(rows, left=2), "", *fit.sentences]).rstrip()
