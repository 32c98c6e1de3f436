"""`graft check --gradients`: the table by layer, for networks of every origin, and exit status 1 for a wrong one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner

from graft.cli.commands.check import check
from graft.cli.texts.check import as_json, as_text
from graft.errors import UsageError
from graft.jobs.check import _fresh, check_gradients

APP = typer.Typer()
APP.command()(check)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Forgetful(nn.Module):
    """ReLU under which nothing learns."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().relu()


@pytest.mark.parametrize("loss", ["cross-entropy", "svm"])
def test_lenet5_has_a_row_for_each_tensor(loss: str) -> None:
    report = check_gradients("lenet5", loss=loss)
    assert report.passed
    assert report.input == (2, 1, 32, 32)
    title, _, head, _, *rows, _, verdict = as_text(report).splitlines()
    assert title == f"lenet5, {loss}, eval mode, float64, input 2×1×32×32"
    assert head.split()[:3] == ["tensor", "layer", "verdict"]
    assert [row.split()[0] for row in rows] == [
        *(f"stages.{stage}.0.{kind}" for stage in ("c1", "c3") for kind in ("weight", "bias")),
        *(f"classifier.{layer}.{kind}" for layer in ("c5", "f6", "output") for kind in ("weight", "bias")),
        "(input)",
    ]
    assert rows[0].split()[:4] == ["stages.c1.0.weight", "Conv2d", rows[0].split()[2], "6×1×5×5"]
    assert verdict == "right: 106 coordinates of 11 tensors agree with differences"  # c1 has six biases


@pytest.mark.parametrize("name", ["resnet20_cifar", "timm:resnet10t"])
def test_networks_of_every_origin(name: str) -> None:
    report = check_gradients(name, coordinates=1)
    assert report.passed
    assert {gradient.verdict for gradient in report.gradients} <= {"agrees", "close", "flat", "on kinks"}


def test_a_network_that_comes_with_graft_is_looked_at_small() -> None:
    name, network, (channels, side) = _fresh("lite0", 0, False)
    assert (name, channels, side) == ("efficientnet-lite0", 3, 32)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_train_mode_is_stated_and_takes_the_batch_s_statistics() -> None:
    report = check_gradients("resnet20_cifar", coordinates=1, training=True)
    assert report.passed
    assert (report.mode, report.input) == ("train", (4, 3, 16, 16))
    assert {gradient.verdict for gradient in report.gradients} <= {"agrees", "close", "flat"}


@pytest.mark.parametrize("seed", range(12))
def test_a_wrong_network_exits_with_1_and_names_the_layer(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """About half of the layer's inputs have no gradient anyway: too few looked at, and it seems right."""
    torch.manual_seed(seed)
    wrong = nn.Sequential(nn.Linear(6, 5), Forgetful(), nn.Flatten(), nn.Linear(30, 3))
    monkeypatch.setattr("graft.jobs.check._fresh", lambda *_: ("wrong", wrong, (1, 6)))
    report = check_gradients("lenet5")
    assert not report.passed
    assert as_text(report).splitlines()[-1] == (
        "wrong: 3 of 5 tensors; no gradient reaches 0.weight; at fault: 1 (Forgetful)"
    )
    document = json.loads(as_json(report))
    assert (document["passed"], document["fault"]) == (False, "1 (Forgetful)")
    assert [row["verdict"] for row in document["gradients"]][:3] == ["wrong", "wrong", "agrees"]


def test_the_command_prints_and_says_by_its_status_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(APP, ["--gradients", "--network", "lenet5", "--loss", "svm", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["loss"] == "svm"
    monkeypatch.setattr("graft.jobs.check.GradientReport.passed", False)
    assert CliRunner().invoke(APP, ["--gradients", "--network", "lenet5", "--coordinates", "1"]).exit_code == 1
    assert CliRunner().invoke(APP, ["--network", "lenet5"]).exit_code == 2


@pytest.mark.parametrize(("name", "loss", "coordinates", "words"), [
    ("lenet6", "svm", None, "did you mean 'lenet5'"),
    ("lenet5", "swm", None, "did you mean 'svm'"),
    ("lenet5", "svm", 0, "--coordinates must be 1 or more, got 0"),
])  # fmt: skip
def test_mistakes_are_one_line(name: str, loss: str, coordinates: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        check_gradients(name, loss=loss, coordinates=coordinates)
    assert "\n" not in str(raised.value)
