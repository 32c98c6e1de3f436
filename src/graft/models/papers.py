"""The families of networks that the catalog has cards of: each with its paper."""

from __future__ import annotations

from typing import Final

from graft.models.card import Family

LENET: Final = Family(
    "LeNet",
    "LeCun et al., Proc. IEEE 86(11), 1998",
    1998,
    departures="C3 sees every S2 map, pools have no weights, tanh is plain, the output is linear, weights as Glorot's",
)
LECTURES: Final = Family("lectures", "the lectures' first network, also the usual first example of Keras", 2015)
ALEXNET: Final = Family(
    "AlexNet",
    "Krizhevsky et al., NeurIPS 2012; its one-tower form: Krizhevsky, arXiv:1404.5997",
    2012,
    departures="one network on one device",
    contest=16.4,
)
ZFNET: Final = Family(
    "ZFNet",
    "Zeiler and Fergus, ECCV 2014, arXiv:1311.2901",
    2013,
    departures="the normalisation after the pools is AlexNet's",
    contest=11.7,
)
VGG: Final = Family(
    "VGG",
    "Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556",
    2014,
    departures="weights start as He et al.; at other sizes than 224 the last maps are averaged to 7×7",
    contest=7.3,
)
GOOGLENET: Final = Family(
    "GoogLeNet",
    "Szegedy et al., CVPR 2015, arXiv:1409.4842",
    2014,
    departures="pools round sizes up instead of padding",
    contest=6.7,
)
INCEPTION: Final = Family(
    "Inception",
    "Szegedy et al., CVPR 2016, arXiv:1512.00567",
    2015,
    departures="as its authors' code: 5×5 convolutions in the 35² modules, average pools; and batch norm has scales",
)
RESNET: Final = Family("ResNet", "He et al., CVPR 2016, arXiv:1512.03385", 2015, contest=3.57)
SENET: Final = Family("SENet", "Hu et al., CVPR 2018, arXiv:1709.01507", 2017, contest=2.251)
DENSENET: Final = Family("DenseNet", "Huang et al., CVPR 2017, arXiv:1608.06993", 2016)
MOBILENET: Final = Family(
    "MobileNet",
    "Howard et al., arXiv:1704.04861",
    2017,
    departures="ReLU6 where the paper says ReLU, as its authors' code has it; padding is symmetric",
)
LITE: Final = Family(
    "EfficientNet-Lite",
    "Tan and Le, ICML 2019, arXiv:1905.11946; its lite form: its authors, March 2020",
    2020,
    departures="weights start as He et al.; no dropout before the last layer",
)
ALPHAGO: Final = Family(
    "AlphaGo", "Silver et al., Nature 529, 2016", 2016, departures="logits come out, not probabilities"
)
