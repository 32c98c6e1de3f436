"""`graft networks` as a user runs it: the whole list, patterns, JSON, timm's names, and no torch for our own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

import graft as library
from graft.jobs.networks import _CNN_MODULES, matches
from graft.models.catalog import CARDS

Graft = Callable[..., subprocess.CompletedProcess[str]]
LITE = ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
NAMES = LITE + [card.name for card in CARDS if card.name not in LITE]
SAY_MODULES = (
    "import atexit, sys; atexit.register(lambda: print({n.split('.')[0] for n in sys.modules}, file=sys.stderr)); "
)


def test_every_network_has_a_row_and_torch_is_not_imported(graft: Graft) -> None:
    done = graft("networks", python=SAY_MODULES)
    assert done.returncode == 0
    head, rule, *rows = done.stdout.splitlines()
    assert head.split()[:2] == ["network", "weights"]
    assert set(rule) == {"─"}
    assert [row.split()[0] for row in rows] == NAMES
    assert len({len(row) for row in rows}) == 1, "columns are aligned"
    imported = eval(done.stderr)
    assert "typer" in imported
    assert not imported & {"torch", "timm", "torchvision", "onnx", "onnxruntime"}


def test_a_row_says_what_its_paper_does(graft: Graft) -> None:
    rows = graft("networks", "lenet*").stdout.splitlines()[2:]
    assert [row.split() for row in rows] == [
        ["lenet5", "none", "1998", "1×32×32", "61.7", "K", "417", "K", "0.95", "%"],
    ]
    rows = graft("networks", "LITE0").stdout.splitlines()[2:]
    assert rows[0].split() == (
        ["efficientnet-lite0", "comes", "with", "graft", "2020", "3×224×224", "4.65", "M", "385", "M", "24.9", "%"]
    )


def test_json_gives_the_source_of_the_error(graft: Graft) -> None:
    (one,) = json.loads(graft("networks", "resnet50", "--json").stdout)[:1]
    assert (one["name"], one["input"], one["parameters"], one["weights"]) == (
        "resnet50", [3, 224, 224], 25_557_032, ["torchvision", "timm"],
    )  # fmt: skip
    assert one["error"] == {
        "top1": 23.87, "top5": 7.138, "source": "torchvision's first weights, ImageNet-1k validation, one 224² crop",
    }  # fmt: skip
    (none,) = json.loads(graft("networks", "vgg16_c_bn", "--json").stdout)
    assert (none["error"], none["weights"]) == (None, [])


def test_timm_s_networks_are_listed_by_pattern(graft: Graft) -> None:
    done = graft("networks", "timm:resnet1?")
    assert (
        done.stdout.splitlines() == ["timm:resnet10t", "timm:resnet14t", "timm:resnet18"][-len(done.stdout.split()) :]
    )
    assert json.loads(graft("networks", "timm:tf_efficientnet_lite", "--json").stdout) == [
        f"timm:tf_efficientnet_lite{number}" for number in range(5)
    ]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("resnet5O", "did you mean 'resnet50'?"),
        ("timm:resnit18", "did you mean 'resnet18'?"),
        ("qqq", "lists them all"),
    ],
)
def test_an_unknown_pattern_is_one_line(graft: Graft, pattern: str, words: str) -> None:
    done = graft("networks", pattern)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_patterns() -> None:
    assert matches("resnet50", "NET5")
    assert matches("resnet50", "res*0")
    assert not matches("resnet50", "net*")
    assert matches("resnet50", "")


def test_timm_knows_every_module_and_none_is_of_transformers() -> None:
    import timm

    assert set(_CNN_MODULES) <= set(timm.list_modules())
    assert not [
        module for module in _CNN_MODULES if any(word in module for word in ("vision_", "former", "mlp", "beit"))
    ]


def test_from_python() -> None:
    (entry,) = library.networks("vgg16_c_bn")
    assert (entry.parameters, entry.macs) == (133_647_400, 11_770_888_192)
    analysis = library.analyze("vgg16_c_bn")
    assert (analysis.parameters, analysis.macs) == (entry.parameters, entry.macs)
