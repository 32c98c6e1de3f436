"""Augmentations by name, and the policies made of them: what settings, flags and pages can say without torch.

The file `augment.py` gives each name what it does. How often each is applied by itself, and what the policies hold:
`light` keeps what is small and sharp in place; `standard` is the recipe of networks trained on photos; `strong` adds
the rest of what a camera, a hand and a file can do to a picture, for long runs on little data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from graft.errors import UsageError, nearest, shown


@dataclass(frozen=True, slots=True)
class Card:
    """One augmentation. summary: what it does, in a line. share: of the pictures that get it, 0–1. source: paper."""

    name: str
    summary: str
    share: float = 1.0
    source: str = ""


CARDS: Final = (
    Card("flip", "left and right change places", 0.5, "Krizhevsky et al. 2012, §4.1"),
    Card("crop", "shifted by up to 1/8 of each side in whole pixels, edges mirrored", 1.0, "He et al. 2016, §4.2"),
    Card("scale-crop", "a window of 224 out of a short side of 256 to 480", 1.0, "Simonyan & Zisserman 2015, §3.1"),
    Card("resized-crop", "a window of 35–100 % of the area, 3:4 to 4:3, anywhere", 1.0, "Szegedy et al. 2015, §6"),
    Card("translate", "shifted by up to 10 % of each side, between pixels too"),
    Card("rotate", "turned by up to 15°"),
    Card("stretch", "each side stretched or squeezed by up to 1.25"),
    Card("shear", "slanted by up to 12° along each side"),
    Card("lens", "bent to a barrel or a cushion, by up to 20 % at the corners", 1.0, "Brown 1966"),
    Card("brightness", "multiplied by 0.6 to 1.4"),
    Card("contrast", "distance from the mean grey multiplied by 0.6 to 1.4"),
    Card("saturation", "distance from grey multiplied by 0.6 to 1.4"),
    Card("hue", "colours turned about the grey axis by up to 18°"),
    Card("jitter", "brightness, contrast, saturation and hue at once", 1.0, "Howard 2013, §2"),
    Card("pca", "noise along the principal components of colour", 1.0, "Krizhevsky et al. 2012, §4.1"),
    Card(
        "histogram", "each channel's histogram made another picture's of the batch", 0.25, "Gonzalez & Woods 2018, §3.3"
    ),
    Card("grey", "colour taken out", 0.1, "Chen et al. 2020 (SimCLR), appendix A"),
    Card("blur", "Gaussian blur of up to 1/112 of the short side", 0.25, "Chen et al. 2020 (SimCLR), appendix A"),
    Card("jpeg", "compressed at a quality of 10 to 90", 0.5, "Hendrycks & Dietterich 2019"),
    Card("cutout", "a square of half the short side painted in the mean colour", 1.0, "DeVries & Taylor 2017"),
)

POLICIES: Final[dict[str, tuple[tuple[str, float], ...]]] = {  # name → (augmentation, share of the pictures)
    "none": (),
    "light": (("flip", 0.5), ("crop", 1.0)),
    "standard": (("resized-crop", 1.0), ("flip", 0.5), ("jitter", 1.0)),
    "strong": (
        *(("lens", 0.25), ("resized-crop", 1.0), ("flip", 0.5), ("rotate", 0.5), ("shear", 0.5)),
        *(("jitter", 1.0), ("pca", 1.0), ("histogram", 0.1), ("grey", 0.1)),
        *(("blur", 0.1), ("jpeg", 0.2), ("cutout", 0.5)),
    ),
}


def parse(text: str) -> tuple[Card, ...]:
    """A policy's name, or augmentations by name with commas between them → their cards, in order.

    Raises UsageError for an unknown or repeated name.
    """
    by_name = {card.name: card for card in CARDS}
    if text.strip() in POLICIES:
        return tuple(replace(by_name[name], share=share) for name, share in POLICIES[text.strip()])
    names = [name.strip() for name in text.split(",")]
    for place, name in enumerate(names):
        if name not in by_name:
            raise UsageError(
                f"augmentation must be {', '.join(POLICIES)} or names such as flip,crop, got {shown(name)!r}; "
                f"choose from {', '.join(by_name)}{nearest(name, [*POLICIES, *by_name])}"
            )
        if name in names[:place]:
            raise UsageError(f"augmentation names {name!r} twice in {shown(text)!r}; name each once")
    return tuple(by_name[name] for name in names)
