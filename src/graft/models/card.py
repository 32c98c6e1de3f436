"""What is known of a network before it is built: its card. No torch is needed to read one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from graft.models.inputs import Pictures
from graft.models.names import Renaming

Library = Literal["torchvision", "timm"]
Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Family:
    """Networks of one paper.

    departures: where our graphs differ from the paper, for all of the family; empty when nowhere. contest: top-5 error,
    percent, of its entry to ImageNet's yearly contest (ILSVRC), which was an ensemble, over several crops; None for
    those that were not entered.
    """

    name: str
    paper: str
    year: int
    departures: str = ""
    contest: float | None = None


@dataclass(frozen=True)
class Error:
    """A published error, percent; top1 or top5 is None where nobody gives it. source: who measured it, and on what."""

    top1: float | None
    top5: float | None
    source: str


IMAGENET_MEAN: Final[Triple] = (0.485, 0.456, 0.406)  # per RGB channel, 0–1: what most published weights expect
IMAGENET_STD: Final[Triple] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """Weights that somebody publishes and our network takes.

    library, model: how they are called there, such as torchvision's resnet50. names: the map from their tensors' names
    to ours. licence: of the weights, as the library states it. mean, std: per RGB channel, in the 0–1 range, what the
    pictures were normalised with; interpolation: how they were resized.
    """

    library: Library
    model: str
    names: Renaming
    licence: str
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class Packaged:
    """ImageNet weights that are installed with graft. package: of Python, which carries the file, its tensors in the
    order of ours."""

    package: str
    file: str


@dataclass(frozen=True)
class Card:
    """One network.

    name: what `create` takes. builder: "module:function", imported only when the network is built. takes: the pictures
    it takes. classes: of the paper's last layer. parameters: all that are trained, without auxiliary classifiers.
    macs: multiply-adds of the convolutions and linear layers for one picture of the paper's size (biases, norms,
    activations and pools not counted). error: of one model and one crop, unless its source says otherwise.
    auxiliary_parameters: of the auxiliary classifiers, for networks that can be created with them. published: whose
    weights load. packaged: where those lie that come with graft. short: another name for it. note: what is special
    about it, and its own departures from the paper.
    """

    name: str
    family: Family
    builder: str
    takes: Pictures
    parameters: int
    macs: int
    classes: int = 1000
    error: Error | None = None
    published: tuple[Published, ...] = ()
    packaged: Packaged | None = None
    short: str = ""
    auxiliary_parameters: int = 0
    note: str = ""

    @property
    def input(self) -> tuple[int, int, int]:
        """(C, H, W) of the paper's input, pixels."""
        return self.takes.shape

    @property
    def smallest_side(self) -> int | None:
        """The least side of a picture, pixels; None when only the paper's own size will do."""
        return self.takes.smallest
