"""Any module: multiply-adds against PyTorch's own counter, parameters against the module, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from graft.analysis.readers.meta import built_without_weights
from graft.analysis.readers.trace import analyze_module
from graft.analysis.table import NOT_CALLED, PICTURE
from graft.errors import UsageError

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

TORCHVISION = (
    *("alexnet", "vgg16_bn", "googlenet", "inception_v3", "resnet18", "resnext50_32x4d", "densenet121", "mobilenet_v2"),
    *("mobilenet_v3_small", "efficientnet_b0", "squeezenet1_0", "shufflenet_v2_x1_0", "mnasnet1_0", "convnext_tiny"),
    *("vit_b_32", "swin_t", "maxvit_t"),
)
TIMM = (
    *("resnet18", "resnet50d", "resnetv2_50", "seresnet50", "skresnet18", "resnest14d", "res2net50_26w_4s", "dla34"),
    *(
        "densenet121",
        "vgg11_bn",
        "inception_v4",
        "inception_resnet_v2",
        "xception41",
        "efficientnet_lite0",
        "nasnetalarge",
    ),
    *("tf_efficientnet_b0", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mnasnet_small"),
    *("regnety_002", "regnetx_002", "convnext_atto", "convnextv2_atto", "ghostnet_100", "hardcorenas_a", "rexnet_100"),
    *("lcnet_050", "hrnet_w18_small", "cspresnet50", "dpn48b", "repvgg_a0", "edgenext_xx_small", "fbnetc_100"),
)


def oracle(network: nn.Module, shape: tuple[int, ...]) -> int:
    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), counter:
        network.eval()(torch.empty(1, *shape, device="meta"))
    torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() // 2


def check(network: nn.Module, shape: tuple[int, ...]) -> None:
    analysis = analyze_module(network, shape)
    assert analysis.macs == oracle(network, shape)
    assert analysis.parameters == sum(p.numel() for p in network.parameters())
    assert analysis.uncounted == ()
    rows = range(len(analysis.layers))
    assert all(PICTURE <= source < i for i in rows for source in analysis.layers[i].inputs)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks(name: str) -> None:
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None, **extra)
    check(network, (3, 299, 299) if name == "inception_v3" else (3, 224, 224))


@pytest.mark.parametrize("name", TIMM)
def test_timm_networks(name: str) -> None:
    network = built_without_weights(lambda: timm.create_model(name, pretrained=False)).eval()
    check(network, network.pretrained_cfg["input_size"])


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(8, 12, 3, padding=1), (8, 5, 7), 12 * 5 * 7 * 8 * 9),
        (nn.Conv2d(8, 12, 3, padding=1, groups=4), (8, 5, 7), 12 * 5 * 7 * 2 * 9),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 5, 7), 8 * 5 * 7 * 9),
        (nn.Conv2d(8, 12, 3, dilation=2), (8, 9, 9), 12 * 5 * 5 * 8 * 9),
        (nn.Conv2d(8, 12, (1, 5), stride=(1, 2)), (8, 4, 9), 12 * 4 * 3 * 8 * 5),
        (nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1), (8, 5, 7), 8 * 5 * 7 * 12 * 16),
        (nn.ConvTranspose2d(8, 12, 4, stride=2, groups=2), (8, 5, 7), 8 * 5 * 7 * 6 * 16),
        (nn.Linear(10, 4), (6, 10), 6 * 10 * 4),
        (nn.MaxPool2d(2), (8, 4, 4), 0),
    ],
)
def test_multiply_adds_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    analysis = analyze_module(layer, shape)
    assert analysis.macs == macs == oracle(layer.to("meta"), shape)
    assert analysis.parameters == sum(p.numel() for p in layer.parameters())


def test_geometry_of_a_convolution() -> None:
    (layer,) = analyze_module(nn.Conv2d(4, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=2), (4, 16, 20)).layers
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 5), (2, 1), (1, 2))
    assert (layer.dilation, layer.groups) == ((1, 2), 2)
    assert (layer.input_shape, layer.output_shape) == ((4, 16, 20), (8, 8, 16))
    assert layer.activation_bytes == 4 * 8 * 8 * 16


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.qkv = fused, nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(1, 10, 3, 2, 8).permute(2, 0, 3, 1, 4)  # (N, heads, T, d) each
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


@pytest.mark.parametrize("fused", [False, True])
def test_products_of_attention(fused: bool) -> None:
    analysis = analyze_module(Attention(fused), (10, 16))
    assert analysis.macs == 10 * 16 * 48 + 2 * (2 * 10 * 10 * 8)
    assert [layer.macs for layer in analysis.layers if layer.kind == "matmul"] == [1600, 1600]


def test_multihead_attention_is_counted_even_where_torch_would_fuse_it() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    network = Block().requires_grad_(False)
    before = torch.backends.mha.get_fastpath_enabled()
    analysis = analyze_module(network, (10, 16))
    assert analysis.macs == 10 * 16 * 48 + 2 * (2 * 10 * 10 * 8) + 10 * 16 * 16
    assert analysis.parameters == sum(p.numel() for p in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == before


class Twice(nn.Module):
    """One layer called twice, one never, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.idle = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.shared(self.shared(x)) + x


def test_a_layer_called_twice_costs_twice_and_weighs_once() -> None:
    analysis = analyze_module(Twice(), (3, 8, 8))
    rows = {layer.name: layer for layer in analysis.layers}
    assert (rows["shared"].parameters, rows["shared@2"].parameters) == (84, 0)
    assert rows["shared"].macs == rows["shared@2"].macs == 3 * 64 * 27
    assert rows["multiply"].parameters == 3
    assert rows["idle"].kind == NOT_CALLED
    assert rows["idle"].parameters == 30
    assert rows["add"].inputs == (2, PICTURE)


def test_residual_edges_survive_working_in_place() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.stem(x))
            y = self.conv(x)
            y += x
            return self.relu(y)

    rows = analyze_module(Block(), (3, 8, 8)).layers
    assert [(r.name, r.inputs) for r in rows] == [
        *(("stem", (-1,)), ("relu", (0,)), ("conv", (1,)), ("add", (2, 1)), ("relu@2", (3,)))
    ]
    assert [r.activation_bytes for r in rows] == [1024, 0, 1024, 0, 0]


def test_part_of_a_map_overwritten() -> None:
    class Patch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nothing = nn.Identity()  # a module with a child makes a row for each operation

        def forward(self, x: Tensor) -> Tensor:
            y = x.relu()
            y[:, :1] = x[:, :1].sigmoid()
            return y.tanh()

    *_, last = analyze_module(Patch(), (3, 8, 8)).layers
    assert len(last.inputs) == 2
    assert last.field is None


def test_an_operation_that_cannot_be_counted_is_named() -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft2(x).real.relu()

    network = nn.Sequential(nn.Conv2d(3, 3, 3), Spectrum())
    analysis = analyze_module(network, (3, 8, 8))
    assert [layer.name for layer in analysis.uncounted] == ["1"]
    assert "_fft" in analysis.uncounted[0].uncounted
    assert analysis.layers[-1].field is None


def test_deformable_convolution_is_named() -> None:
    class Deformable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset, self.deform = nn.Conv2d(3, 18, 3, padding=1), torchvision.ops.DeformConv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.deform(x, self.offset(x))

    analysis = analyze_module(Deformable(), (3, 8, 8))
    assert [layer.name for layer in analysis.uncounted] == ["deform"]
    assert "torchvision::deform_conv2d" in analysis.uncounted[0].uncounted
    assert analysis.parameters == sum(p.numel() for p in Deformable().parameters())


def test_nothing_of_the_module_changes() -> None:
    network = torchvision.models.resnet18(weights=None)
    network.layer1.eval()
    state = {name: (id(t), t.clone()) for name, t in network.state_dict(keep_vars=True).items()}
    modes = [m.training for m in network.modules()]
    kept = network.conv1.register_forward_hook(lambda *_: None)
    analyze_module(network)
    assert [m.training for m in network.modules()] == modes
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()) == 1
    kept.remove()
    assert all(isinstance(p, nn.Parameter) for p in network.parameters())
    for name, tensor in network.state_dict(keep_vars=True).items():
        assert id(tensor) == state[name][0]
        assert torch.equal(tensor, state[name][1])


def test_a_failed_analysis_leaves_nothing_behind_either() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2)).train()
    with pytest.raises(UsageError, match=r"input of 3×8×8: layer '2' says .*give the input that it takes"):
        analyze_module(network, (3, 8, 8))
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_network_that_decides_by_values_is_refused_by_name() -> None:
    class Chooses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(UsageError, match="layer '1' says"):
        analyze_module(nn.Sequential(nn.ReLU(), Chooses()), (3, 4, 4))


def test_tensors_that_are_no_parameters_are_followed() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x - self.mean, torch.ones(2, 3, 1, 1))

    analysis = analyze_module(Constant(), (3, 4, 4))
    assert (analysis.parameters, analysis.macs) == (0, 2 * 16 * 3)


def test_a_module_registered_twice_gets_its_weights_back() -> None:
    shared = nn.Conv2d(3, 3, 1)
    network = nn.Sequential(shared, nn.Sequential(shared, nn.BatchNorm2d(3)))
    tensors = [id(t) for t in network.state_dict(keep_vars=True).values()]
    assert analyze_module(network, (3, 4, 4)).parameters == 12 + 6
    assert [id(t) for t in network.state_dict(keep_vars=True).values()] == tensors


def test_recurrent_layers_keep_their_parameters() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 6, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0]

    analysis = analyze_module(Reads(), (5, 8))
    assert analysis.parameters == 4 * 6 * (8 + 6 + 2)
    assert analysis.macs == 5 * 4 * 6 * (8 + 6) or analysis.uncounted


def test_tied_weights_count_once() -> None:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    assert analyze_module(nn.Sequential(first, second), (8,)).parameters == 64 + 8 + 8
