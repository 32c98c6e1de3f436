"""The catalog: its cards, finding one, building one; and that none of it needs torch until something is built."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from graft.errors import UsageError
from graft.models.catalog import CARDS, create, find


def test_reading_the_catalog_imports_no_torch() -> None:
    code = "import sys; from graft.models.catalog import CARDS; print(len(CARDS), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.split() == [str(len(CARDS)), "False"]


def test_names_are_unique() -> None:
    assert len({card.name for card in CARDS}) == len(CARDS)


def test_every_family_of_the_lectures_is_there() -> None:
    assert {card.family.name for card in CARDS} == {
        *("lectures", "LeNet", "AlexNet", "ZFNet", "VGG", "GoogLeNet", "Inception", "ResNet", "SENet"),
        *("DenseNet", "MobileNet", "EfficientNet-Lite", "AlphaGo"),
    }


def test_every_card_names_its_paper_and_the_source_of_its_error() -> None:
    for card in CARDS:
        assert card.family.paper
        assert 1998 <= card.family.year <= 2020
        if card.error is not None:
            assert card.error.source
            assert card.error.top1 is not None or card.error.top5 is not None
            assert card.error.top1 is None or card.error.top5 is None or card.error.top5 < card.error.top1


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no network of our own is called 'resnet5O'; did you mean 'resnet50'\?"):
        find("resnet5O")


def test_a_seed_fixes_the_weights_and_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    first, again, other = (create("lenet5", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.stages.c1[0].weight, other.stages.c1[0].weight)


def test_without_a_seed_torch_s_generator_decides() -> None:
    torch.manual_seed(11)
    first = create("lenet5")
    torch.manual_seed(11)
    torch.testing.assert_close(create("lenet5").state_dict(), first.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("classes", [0, -3])
def test_refuses_less_than_one_class(classes: int) -> None:
    with pytest.raises(UsageError, match=f"lenet5 needs 1 class or more, got {classes}"):
        create("lenet5", num_classes=classes)


def test_refuses_auxiliary_classifiers_that_do_not_exist() -> None:
    with pytest.raises(
        UsageError, match="resnet18 has no auxiliary classifiers, only googlenet, googlenet_bn, inception_v3"
    ):
        create("resnet18", auxiliary=True)
