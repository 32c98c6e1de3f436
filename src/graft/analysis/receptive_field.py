"""The part of the picture that one position of a map can see, in exact arithmetic.

Along each side a map is described by three numbers, in pixels of the network's input: the size of one position's
field, the jump between the fields of two neighbours, and the centre of the first position's field. Pixel i covers
i to i + 1, so the first pixel's centre is 0.5. Fields are not clipped at the picture's border: a field that reaches
into the padding keeps its size, and the centre of the first one may lie outside the picture.

Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019,
equations 2 to 4, with centres instead of borders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Span:
    """Fields along one side of a map. size, jump and centre (of the first position) are in input pixels."""

    size: Fraction
    jump: Fraction
    centre: Fraction

    def window(self, kernel: int, stride: Fraction | int = 1, padding: int = 0, dilation: int = 1) -> Span:
        """After a convolution or pool. padding: what is added before the first position; a negative one crops.

        'Same' padding is whatever number its framework puts there; when it puts one more at the end than at the
        start, the centres move by half a jump, as they do in the computation.
        """
        reach = (kernel - 1) * dilation  # steps between the first tap and the last
        return Span(
            size=self.size + reach * self.jump,
            jump=self.jump * stride,
            centre=self.centre + (Fraction(reach, 2) - padding) * self.jump,
        )

    def transposed(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Span:
        """After a transposed convolution: the largest field of any output position.

        Input i reaches the outputs i·stride − padding + dilation·(0 … kernel − 1), so an output is fed by at most
        ⌈reach / stride⌉ neighbouring inputs.
        """
        reach = (kernel - 1) * dilation + 1
        fed = math.ceil(Fraction(reach, stride))
        return Span(
            size=self.size + (fed - 1) * self.jump,
            jump=self.jump / stride,
            centre=self.centre + (padding - Fraction(reach - 1, 2)) * self.jump / stride,
        )

    def enlarged(self, ratio: Fraction, taps: int) -> Span:
        """After resizing to `ratio` times as many positions, each read from `taps` neighbours: 1 nearest, 2 linear."""
        return Span(
            size=self.size + (taps - 1) * self.jump,
            jump=self.jump / ratio,
            centre=self.centre + (1 / ratio - 1) / 2 * self.jump,
        )

    def all_of(self, positions: int) -> Span:
        """What a layer sees that reads all `positions` at once: a global pool, or a linear layer on a flattened map."""
        return self.window(positions, positions)

    def union(self, other: Span) -> Span:
        """Two branches that meet: the smallest span that holds both, at the first one's jump."""
        low = min(self.centre - self.size / 2, other.centre - other.size / 2)
        high = max(self.centre + self.size / 2, other.centre + other.size / 2)
        return Span(high - low, self.jump, (low + high) / 2)

    @property
    def pixels(self) -> int:
        """The size in whole pixels."""
        return math.ceil(self.size)


PIXEL = Span(Fraction(1), Fraction(1), Fraction(1, 2))


@dataclass(frozen=True)
class Field:
    """The receptive fields of a map, along its rows and its columns.

    gated: one number per channel, drawn from the whole picture (squeeze-and-excitation, a group norm's statistics),
    also scales the map. It says how much, not where, and is left out of the spans.
    """

    rows: Span = PIXEL
    columns: Span = PIXEL
    gated: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in whole pixels."""
        return self.rows.pixels, self.columns.pixels

    def window(
        self,
        kernel: tuple[int, int],
        stride: tuple[Fraction | int, Fraction | int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
    ) -> Field:
        """After a convolution or pool; every pair is (rows, columns)."""
        return Field(
            self.rows.window(kernel[0], stride[0], padding[0], dilation[0]),
            self.columns.window(kernel[1], stride[1], padding[1], dilation[1]),
            self.gated,
        )

    def transposed(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> Field:
        """After a transposed convolution; every pair is (rows, columns)."""
        return Field(
            self.rows.transposed(kernel[0], stride[0], padding[0], dilation[0]),
            self.columns.transposed(kernel[1], stride[1], padding[1], dilation[1]),
            self.gated,
        )

    def enlarged(self, ratio: tuple[Fraction, Fraction], taps: int) -> Field:
        """After resizing; ratio is (rows, columns)."""
        return Field(self.rows.enlarged(ratio[0], taps), self.columns.enlarged(ratio[1], taps), self.gated)

    def all_of(self, grid: tuple[int, int]) -> Field:
        """What a layer sees that reads all of a grid of (rows, columns) positions at once."""
        return Field(self.rows.all_of(grid[0]), self.columns.all_of(grid[1]), self.gated)

    def union(self, other: Field) -> Field:
        """Two branches that meet, at the first one's jumps."""
        return Field(self.rows.union(other.rows), self.columns.union(other.columns), self.gated or other.gated)


def whole_picture(sides: tuple[int, int]) -> Field:
    """What attention sees: all of a picture of (height, width) pixels, and nothing beside it."""
    rows, columns = (Span(Fraction(side), Fraction(side), Fraction(side, 2)) for side in sides)
    return Field(rows, columns)


def adaptive_window(inside: int, outside: int) -> tuple[int, Fraction]:
    """The window and stride by which an adaptive pool takes `inside` positions to `outside`.

    Where one does not divide the other the windows differ in size: the largest is given, and the mean stride.
    """
    starts = [i * inside // outside for i in range(outside)]
    ends = [-(-(i + 1) * inside // outside) for i in range(outside)]
    return max(end - start for start, end in zip(starts, ends, strict=True)), Fraction(inside, outside)
