"""Which pictures a network takes, and the one-line error for any others. No torch is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """The shape of one picture that a network takes.

    channels: planes of a picture. side: pixels of the square the paper uses. smallest: the least side, pixels, that
    still leaves something in every map; None when the paper's fully connected layers allow `side` and nothing else.
    """

    channels: int
    side: int
    smallest: int | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the paper's input."""
        return self.channels, self.side, self.side

    def check(self, x: Tensor, network: str) -> None:
        """Raise UsageError unless x is (N, C, H, W) with this many channels and sides that `network` allows."""
        allowed = x.ndim == 4 and x.shape[1] == self.channels
        if allowed and self.smallest is None:
            allowed = x.shape[2] == self.side and x.shape[3] == self.side
        elif allowed and self.smallest is not None:
            allowed = x.shape[2] >= self.smallest and x.shape[3] >= self.smallest
        if allowed:
            return
        if self.smallest is None:
            needed = f"(N, {self.channels}, {self.side}, {self.side}) and no other size"
            remedy = f"resize the pictures to {self.side} pixels"
        else:
            needed = f"(N, {self.channels}, H, W) with sides of {self.smallest} pixels or more"
            remedy = f"resize the pictures, to {self.side} pixels as its paper does"
        raise UsageError(f"{network} takes pictures of shape {needed}, got {tuple(x.shape)}; {remedy}")
