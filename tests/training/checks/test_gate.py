"""The gate on real pictures: a sound set-up passes, and each way to go wrong is caught by its check, cause and all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graft.errors import UsageError
from graft.models.catalog import create
from graft.training.checks.gate import Check, GateReport, gate
from graft.training.checks.gate_samples import Edges, dealt, edges, painted, spread
from graft.training.loop.pictures import Pictures, from_array
from graft.training.recipe.losses import Loss, cross_entropy, multiclass_svm
from graft.training.recipe.normalize import Normalization, channel_statistics
from graft.training.recipe.optimizers import optimizer

NAMES = ["initial loss", "small sample", "gradient", "true labels", "shuffled labels", "blank pictures"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brief trainings of one epoch, for tests of the checks before them."""
    monkeypatch.setattr("graft.training.checks.gate.BRIEF_EPOCHS", 1)


@pytest.fixture(scope="module")
def clothes(data_kit: Callable[[str], Path]) -> Pictures:
    """400 pictures of Fashion-MNIST, 28×28 grey, ten classes."""
    with np.load(data_kit("fashion-mnist") / "fashion_mnist.npz") as arrays:
        return from_array(arrays["x_train"][:400], arrays["y_train"][:400])


def checked(
    pictures: Pictures,
    make_network: Callable[[], nn.Module] = lambda: create("lecture_net"),
    *,
    loss: Loss = cross_entropy,
    rate: float = 1e-3,
    name: str = "adam",
    normalization: Normalization | None = None,
    val: Pictures | None = None,
    seconds: float = 60,
) -> dict[str, Check]:
    """The gate's checks by name, with time enough that none is cut short."""
    return {check.name: check for check in report(
        pictures, make_network, loss=loss, rate=rate, name=name, normalization=normalization, val=val, seconds=seconds
    ).checks}  # fmt: skip


def report(
    pictures: Pictures,
    make_network: Callable[[], nn.Module],
    *,
    loss: Loss = cross_entropy,
    rate: float = 1e-3,
    name: str = "adam",
    normalization: Normalization | None = None,
    val: Pictures | None = None,
    seconds: float = 60,
) -> GateReport:
    def make_optimizer(network: nn.Module, at: float) -> torch.optim.Optimizer:
        if at == 0:
            return torch.optim.SGD(network.parameters(), lr=0.0)
        return optimizer(name, network.parameters(), rate=at)

    return gate(
        make_network, loss, pictures, num_classes=10, normalization=normalization or channel_statistics(pictures),
        make_optimizer=make_optimizer, rate=rate, val=val, seconds=seconds,
    )  # fmt: skip


def failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.status == "failed"]


@pytest.mark.parametrize("loss", [cross_entropy, multiclass_svm])
def test_lenet_passes_every_check(clothes: Pictures, loss: Loss) -> None:
    state = torch.random.get_rng_state()
    found = report(clothes.padded(32), lambda: create("lenet5"), loss=loss, rate=3e-3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [(check.name, check.status) for check in found.checks] == [(name, "passed") for name in NAMES], str(found)
    expected = "2.303" if loss is cross_entropy else "9"
    assert f"equal scores for 10 classes give {expected}" in found.checks[0].found
    assert found.passed
    read_again = json.loads(json.dumps(found.as_json()))
    assert read_again["passed"] is True
    assert [check["name"] for check in read_again["checks"]] == NAMES


@pytest.mark.usefixtures("one_epoch")
def test_weights_a_hundred_times_too_large(clothes: Pictures) -> None:
    def make() -> nn.Module:
        network = create("lecture_net")
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(100)
        return network

    found = report(clothes, make)
    assert not found.passed
    assert found.checks[0].status == "failed"
    assert found.checks[0].causes[0].startswith("weights too large")
    assert "failed  initial loss: " in str(found)


@pytest.mark.usefixtures("one_epoch")
def test_pixels_left_at_255(clothes: Pictures) -> None:
    raw = Normalization(np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))
    checks = checked(clothes, normalization=raw)
    assert checks["initial loss"].status == "failed"
    assert checks["initial loss"].causes[0].startswith("inputs not normalised: mean 7")


def test_wrong_number_of_outputs_ends_the_gate(clothes: Pictures) -> None:
    (check,) = report(clothes, lambda: create("lecture_net", num_classes=12)).checks
    assert (check.status, check.found) == ("failed", "the network gives 12 scores for 10 classes")
    assert check.causes[0].startswith("wrong number of outputs")


@pytest.mark.usefixtures("one_epoch")
def test_targets_shifted_by_one_class(clothes: Pictures) -> None:
    checks = checked(clothes, loss=lambda scores, target: cross_entropy(scores, (target + 1) % 10))
    assert "small sample" in failed(checks)
    assert checks["small sample"].causes[0].startswith("labels out of step")
    assert checks["gradient"].status == "passed"


def test_labels_out_of_step_with_the_pictures_learn_nothing(clothes: Pictures) -> None:
    checks = checked(replace(clothes, labels=np.roll(clothes.labels, 1)))
    assert (checks["true labels"].status, failed(checks)) == ("warned", [])


@pytest.mark.usefixtures("one_epoch")
def test_a_detached_layer(clothes: Pictures) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = create("lecture_net")

        def forward(self, x: Tensor) -> Tensor:
            stages = self.whole.get_submodule("stages")
            maps: Tensor = stages.get_submodule("conv2")(stages.get_submodule("conv1")(x).detach())
            scores: Tensor = self.whole.get_submodule("classifier")(maps)
            return scores

    checks = checked(clothes, Detached, seconds=600)  # on a busy machine the search for the layer takes its time
    assert failed(checks) == ["gradient"]
    first = checks["gradient"].causes[0]
    assert first.startswith("no gradient reaches whole.stages.conv1.0.weight")
    assert "between whole.stages.conv1.2 (MaxPool2d) and whole.stages.conv2.0 (Conv2d)" in first


@pytest.mark.usefixtures("one_epoch")
def test_a_rate_of_zero(clothes: Pictures) -> None:
    checks = checked(clothes, rate=0.0)
    assert failed(checks) == ["small sample"]
    assert checks["small sample"].causes[0].startswith("the rate is 0")


@pytest.mark.usefixtures("one_epoch")
@pytest.mark.parametrize(("rate", "word"), [(50.0, "high"), (1e-6, "low")])
def test_a_rate_far_off(clothes: Pictures, rate: float, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.training.checks.gate.OVERFIT_STEPS", 40)
    checks = checked(clothes, rate=rate, name="sgd")
    assert failed(checks) == ["small sample"]
    assert checks["small sample"].causes[0].startswith(f"the rate is too {word}")


@pytest.mark.usefixtures("one_epoch")
def test_a_rate_ten_times_too_low_is_told_by_trying(clothes: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.training.checks.gate.OVERFIT_STEPS", 40)
    checks = checked(clothes, rate=1e-5)
    assert checks["small sample"].causes[0] == "the rate is too low: at 0.0001 all are learnt"


def test_validation_pictures_that_were_trained_on(clothes: Pictures) -> None:
    few, others = clothes.take(np.arange(100)), clothes.take(np.arange(100, 200))
    leaking = checked(few, val=few)
    assert failed(leaking) == ["shuffled labels"]
    assert leaking["shuffled labels"].causes[0].startswith("validation pictures are also among")
    assert failed(checked(few, val=others)) == []


@pytest.mark.parametrize("side", [28, 32])
def test_a_corner_pixel_that_gives_the_label_away(clothes: Pictures, side: int) -> None:
    pixels = clothes.read(np.arange(len(clothes))).copy()
    pixels[:, 27, 0, 0] = 25 * clothes.labels
    marked = from_array(pixels, clothes.labels).padded(side)
    checks = checked(marked, lambda: create("lecture_net" if side == 28 else "lenet5"), rate=3e-3)
    assert failed(checks) == ["blank pictures"]
    assert checks["blank pictures"].causes[0].startswith("the label shows at the edge")


def test_too_few_pictures_to_train_on_briefly(clothes: Pictures) -> None:
    checks = checked(clothes.take(np.arange(30)))
    assert [check.status for check in checks.values()] == ["passed"] * 3 + ["skipped"] * 3


def test_labels_beyond_the_classes_are_refused(clothes: Pictures) -> None:
    with pytest.raises(UsageError, match="labels 0 to 9, got a label 12"):
        checked(replace(clothes, labels=clothes.labels + 3))


def test_samples_by_hand() -> None:
    pixels = np.zeros((3, 6, 4), np.uint8)
    pixels[:, 1:5, 1:3] = np.arange(24).reshape(3, 4, 2)  # a border of one pixel around all
    pictures = from_array(pixels, np.array([0, 1, 2]))
    at = edges(pictures)
    assert at == Edges(top=1, bottom=4, left=1, right=2)
    blank = painted(pictures, at).read(np.array([0]))[0, :, :, 0]
    assert blank.tolist() == [[0, 0, 1, 1]] * 3 + [[6, 6, 7, 7]] * 3
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    assert sorted(labels[spread(labels, 5, 0)].tolist()) == [0, 0, 1, 1, 2]


def test_equal_pictures_are_dealt_equal_labels() -> None:
    pixels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1)
    one, other = from_array(pixels, np.arange(40)), from_array(pixels[::-1], np.arange(40)[::-1])
    learnt, held = dealt(one, other, 3)
    assert learnt.labels.tolist() == held.labels[::-1].tolist()
    assert sorted(learnt.labels) == list(range(40))
    assert learnt.labels.tolist() != list(range(40))
