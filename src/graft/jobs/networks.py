"""`graft networks`: which networks can be named, what they cost, how good they are, and where their weights come from.

Read from the cards; torch is imported for timm's list alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from graft.errors import UsageError, nearest, shown
from graft.models.card import Card, Error
from graft.models.catalog import CARDS

WITH_GRAFT: Final = "comes with graft"

# Modules of timm whose networks are made of convolutions. Whether one of them can be cut into stages is found out, by
# running it, when it is built.
_CNN_MODULES: Final = (
    *("byobnet", "convmixer", "convnext", "cspnet", "densenet", "dla", "dpn", "efficientnet", "fasternet", "ghostnet"),
    *("hardcorenas", "hgnet", "hrnet", "inception_next", "inception_resnet_v2", "inception_v3", "inception_v4"),
    *("mobilenetv3", "nasnet", "nfnet", "pnasnet", "rdnet", "regnet", "repghost", "repvit", "res2net", "resnest"),
    *("resnet", "resnetv2", "rexnet", "selecsls", "senet", "sknet", "starnet", "tresnet", "vgg", "vovnet", "xception"),
    "xception_aligned",
)


@dataclass(frozen=True)
class Entry:
    """One network as it is listed.

    input: (C, H, W) of the paper's picture. classes: of the paper's last layer. parameters: trained ones, without
    auxiliary classifiers. macs: multiply-adds of convolutions and linear layers for one picture. error: published,
    percent, or None. contest: top-5 error of the family's entry to ImageNet's contest, percent, an ensemble.
    weights: who has them: "comes with graft", "torchvision", "timm"; empty where nobody does.
    """

    name: str
    family: str
    paper: str
    year: int
    input: tuple[int, int, int]
    classes: int
    parameters: int
    macs: int
    error: Error | None
    contest: float | None
    weights: tuple[str, ...]
    note: str


def networks(pattern: str = "") -> tuple[Entry, ...]:
    """The networks that come with graft and our own, those with weights in the installation first.

    pattern: a shell pattern of the whole name where it has `*`, `?` or `[`, else a part of it; case does not matter.
    Raises UsageError when none matches.
    """
    entries = tuple(map(_of_card, sorted(CARDS, key=lambda card: card.packaged is None)))
    names = [entry.name for entry in entries]
    found = tuple(entry for entry in entries if matches(entry.name, pattern))
    if not found:
        raise UsageError(
            f"no network matches {shown(pattern)!r}, `graft networks` lists them all and timm:PATTERN those of timm"
            f"{nearest(pattern, names)}"
        )
    return found


def timm_networks(pattern: str = "") -> tuple[str, ...]:
    """Names of timm's convolutional networks, as `timm:NAME`, in timm's order. Imports timm, and torch with it.

    pattern: as `networks` takes it, of the name after `timm:`. Raises UsageError when none matches.
    """
    import timm

    known = sorted(name for module in _CNN_MODULES for name in timm.list_models(module=module))
    found = tuple(f"timm:{name}" for name in known if matches(name, pattern))
    if not found:
        raise UsageError(
            f"no convolutional network of timm matches {shown(pattern)!r}, `graft networks timm:` lists them all"
            f"{nearest(pattern, known)}"
        )
    return found


def matches(name: str, pattern: str) -> bool:
    """Whether a name has `pattern`: all of it a shell pattern, or part of it plain text, in lower or upper case."""
    wanted = pattern.lower()
    return fnmatchcase(name, wanted) if any(sign in wanted for sign in "*?[") else wanted in name


def _of_card(card: Card) -> Entry:
    libraries = (WITH_GRAFT,) if card.packaged else tuple(published.library for published in card.published)
    return Entry(
        card.name, card.family.name, card.family.paper, card.family.year, card.input, card.classes, card.parameters,
        card.macs, card.error, card.family.contest, libraries, card.note,
    )  # fmt: skip
