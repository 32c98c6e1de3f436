"""How the tensors of published weights are called there, and here: one map for each family and library.

A map is a tuple of rules, applied in order to every name: a regular expression, and what it becomes (None: the tensor
is left out). No torch is needed to read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

LANDMARKS: Final = "head.landmarks"
"""The tensor (M, D), where a head is a kernel machine: what features are compared with before the last linear layer."""
GAMMA: Final = "head.gamma"
"""The tensor () beside it: how fast the kernel falls with squared distance."""

Renaming = tuple[tuple[str, str | None], ...]
Depths = tuple[int, int, int, int, int]


def renamed(name: str, rules: Renaming) -> str | None:
    """The name that `rules` make of another library's `name`; None when they leave the tensor out."""
    for pattern, becomes in rules:
        if becomes is not None:
            name = re.sub(pattern, becomes, name)
        elif re.search(pattern, name):
            return None
    return name


ALEXNET: Final[Renaming] = (
    *((rf"^features\.{place}\.", f"stages.conv{number}.0.") for number, place in enumerate((0, 3, 6, 8, 10), start=1)),
    *((rf"^classifier\.{place}\.", f"classifier.fc{number}.") for number, place in ((6, 1), (7, 4), (8, 6))),
)

_BLOCKS: Final[Renaming] = (
    (r"^layer1\.", "stages.conv2_x.blocks."),
    *((rf"^layer{number}\.", f"stages.conv{number + 1}_x.") for number in (2, 3, 4)),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
    (r"^fc\.", "classifier.fc."),
)
RESNET: Final[Renaming] = (
    (r"^conv1\.", "stages.conv1.conv."),
    (r"^bn1\.", "stages.conv1.bn."),
    *_BLOCKS,
)
SENET: Final[Renaming] = (
    *((rf"^layer0\.(conv|bn){number}\.", rf"stages.conv1.conv1_{number}.\1.") for number in (1, 2, 3)),
    (r"\.se_module\.", ".se."),
    (r"^last_linear\.", "fc."),
    *_BLOCKS,
)
SERESNET: Final[Renaming] = (*SENET, (r"^stages\.conv1\.conv1_1\.", "stages.conv1."))
SENET_LATER: Final[Renaming] = (
    (r"^conv1\.([036])\.", r"stages.conv1.\1.conv."),
    (r"^conv1\.([14])\.", r"stages.conv1.\1.bn."),
    (r"^bn1\.", "stages.conv1.6.bn."),
    (r"^stages\.conv1\.[01]\.", "stages.conv1.conv1_1."),
    (r"^stages\.conv1\.[34]\.", "stages.conv1.conv1_2."),
    (r"^stages\.conv1\.6\.", "stages.conv1.conv1_3."),
    *_BLOCKS,
)

DENSENET: Final[Renaming] = (
    (r"\.(norm|conv)\.([12])\.", r".\1\2."),  # as torchvision's older files write norm1 and conv1
    (r"^features\.(conv0|norm0)\.", r"stages.conv1.\1."),
    (r"^features\.norm5\.", "stages.norm5.norm."),
    (r"^features\.", "stages."),
    (r"^classifier\.", "classifier.fc."),
)

_SEPARABLE: Final = tuple((group, place) for group, size in enumerate((1, 2, 2, 6, 2)) for place in range(size))
MOBILENET: Final[Renaming] = (
    (r"^conv_stem\.", "stages.conv1.conv."),
    (r"^bn1\.", "stages.conv1.bn."),
    (r"\.(conv_dw|bn1)\.", r".depthwise.\1."),
    (r"\.(conv_pw|bn2)\.", r".pointwise.\1."),
    (r"\.conv_[dp]w\.", ".conv."),
    (r"\.bn[12]\.", ".bn."),
    *(
        (rf"^blocks\.{group}\.{place}\.", f"stages.separable{number}.")
        for number, (group, place) in enumerate(_SEPARABLE, start=1)
    ),
    (r"^classifier\.", "classifier.fc."),
)

EFFICIENTNET_LITE: Final[Renaming] = (
    (r"^conv_stem\.", "stages.stem.conv."),
    (r"^bn1\.", "stages.stem.bn."),
    (r"^conv_head\.", "stages.conv_head.conv."),
    (r"^bn2\.", "stages.conv_head.bn."),
    (r"^blocks\.0\.0\.(conv_dw|bn1)\.", r"blocks.0.0.depthwise.\1."),  # the one block that does not widen first
    (r"^blocks\.0\.0\.(conv_pw|bn2)\.", r"blocks.0.0.project.\1."),
    (r"^(blocks\.\d\.\d)\.(conv_pw|bn1)\.", r"\1.expand.\2."),
    (r"^(blocks\.\d\.\d)\.(conv_dw|bn2)\.", r"\1.depthwise.\2."),
    (r"^(blocks\.\d\.\d)\.(conv_pwl|bn3)\.", r"\1.project.\2."),
    (r"\.conv_(dw|pw|pwl)\.", ".conv."),
    (r"\.bn[123]\.", ".bn."),
    (r"^(blocks\.\d\.\d)\.", r"stages.\1.layers."),
    (r"^classifier\.", "classifier.fc."),
)

GOOGLENET: Final[Renaming] = (
    (r"^conv1\.", "stages.conv1."),
    (r"^conv2\.", "stages.conv2.reduce."),
    (r"^conv3\.", "stages.conv2.conv."),
    (r"^inception", "stages.inception"),
    (r"\.branch2\.0\.", ".branch2.reduce3x3."),
    (r"\.branch2\.1\.", ".branch2.conv3x3."),
    (r"\.branch3\.0\.", ".branch3.reduce5x5."),
    (r"\.branch3\.1\.", ".branch3.conv5x5."),
    (r"\.branch4\.1\.", ".branch4.project."),
    (r"^aux1\.", "auxiliary.inception4a."),
    (r"^aux2\.", "auxiliary.inception4d."),
    (r"^fc\.", "classifier.fc."),
)
INCEPTION: Final[Renaming] = (
    (r"^AuxLogits\.", "auxiliary.Mixed_6e."),
    (r"^(?=Conv2d_|Mixed_)", "stages."),
    (r"\.branch_pool\.", ".branch_pool.conv1."),
    (r"(\.branch\w+?)_(\d)([ab])\.", r"\1.conv\2.\3."),
    (r"(\.branch\w+?)_(\d)\.", r"\1.conv\2."),
    (r"^fc\.", "classifier.fc."),
)


def vgg(depths: Depths, *, batch_norm: bool = False) -> Renaming:
    """The map for torchvision's VGGs, which number their layers through. depths: convolutions of the five stages."""
    return (
        *_vgg_layers(depths, batch_norm),
        *((rf"^classifier\.{place}\.", f"classifier.fc{number}.") for number, place in ((6, 0), (7, 3), (8, 6))),
    )


def _vgg_layers(depths: Depths, batch_norm: bool) -> Iterator[tuple[str, str]]:
    """A rule for each layer with weights; ReLUs and pools count too."""
    index = 0
    for stage, depth in enumerate(depths, start=1):
        for place in range(1, depth + 1):
            yield rf"^features\.{index}\.", f"stages.conv{stage}.conv{stage}_{place}."
            if batch_norm:
                yield rf"^features\.{index + 1}\.", f"stages.conv{stage}.bn{stage}_{place}."
            index += 3 if batch_norm else 2  # the convolution, its batch norm, its ReLU
        index += 1  # the pool
