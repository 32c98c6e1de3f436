"""The phases of fine-tuning: how views and seconds are planned, by hand, and what the pieces do to a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from finetune.kept import built
from graft.errors import UsageError
from graft.finetune.phases import Plan, _depths, give_head, make_plan, small_side, varied, with_batch
from graft.models.network import head
from graft.training.recipe.settings import Recipe

AUGMENTED = Recipe(strategy="scratch", epochs=6, augment="standard")
PLAIN = Recipe(strategy="scratch", epochs=6, augment="flip")


def test_without_a_budget_there_are_four_views_or_as_many_as_epochs_or_one_without_augmentation() -> None:
    two = Recipe(strategy="scratch", epochs=2, augment="light")
    assert make_plan(AUGMENTED, left=None, per_view=0.0, whole=False, small=False) == Plan(4)
    assert make_plan(two, left=None, per_view=0.0, whole=True, small=False) == Plan(2)
    assert make_plan(PLAIN, left=None, per_view=0.0, whole=False, small=False) == Plan(1)


@pytest.mark.parametrize(("epochs", "views", "small"), [(1, 1, 0), (2, 2, 1), (3, 3, 2), (4, 4, 3), (9, 4, 3)])
def test_two_thirds_of_the_views_are_small_where_they_may_be_and_one_is_not(
    epochs: int, views: int, small: int
) -> None:
    training = Recipe(strategy="scratch", epochs=epochs, augment="standard")
    assert make_plan(training, left=None, per_view=0.0, whole=False, small=True) == Plan(views, small=small)


def test_a_run_that_may_stop_early_has_no_small_views() -> None:
    patient = Recipe(strategy="scratch", epochs=6, augment="standard", patience=2)
    assert make_plan(patient, left=None, per_view=0.0, whole=False, small=True) == Plan(4)


@pytest.mark.parametrize(
    ("size", "side"),
    [(224, 160), (256, 192), (240, 160), (160, 128), (128, 96), (96, None), (112, None)],
)
def test_small_pictures_have_seven_tenths_of_the_side_in_steps_of_32(size: int, side: int | None) -> None:
    assert small_side(built(), size) == side


def test_a_network_for_one_size_has_no_small_pictures() -> None:
    network = built()
    assert small_side(network, 224) == 160
    network.network.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64 * 56 * 56, 3))
    assert small_side(network, 224) is None


@pytest.mark.parametrize(
    ("left", "per_view", "whole", "expected"),
    [
        (90.0, 10.0, False, Plan(3, 60.0)),  # a third of the time for views, the rest for training
        (90.0, 10.0, True, Plan(3, 40.0, 20.0)),  # two thirds of it on maps, a third on pictures
        (900.0, 10.0, False, Plan(4, 860.0)),  # more than four views do not pay
        (12.0, 10.0, False, Plan(1, 2.0)),  # one view at least
        (5.0, 10.0, False, Plan(1, 1.0)),  # and a second of training, which is at least a step
        (-40.0, 10.0, True, Plan(1, 2 / 3, 1 / 3)),
        (30.0, 0.0, True, Plan(1, None, 30.0)),  # nothing is frozen: no maps
        (-5.0, 0.0, False, Plan(1, None, 1.0)),
    ],
)
def test_a_budget_is_shared_out(left: float, per_view: float, whole: bool, expected: Plan) -> None:
    found = make_plan(AUGMENTED, left=left, per_view=per_view, whole=whole, small=True)
    assert (found.views, found.small) == (expected.views, 0)
    for given, wanted in ((found.on_maps, expected.on_maps), (found.on_pictures, expected.on_pictures)):
        assert given == (None if wanted is None else pytest.approx(wanted))


def test_views_and_phases_together_never_exceed_what_is_left() -> None:
    for left in (20.0, 60.0, 300.0):
        for per_view in (0.5, 3.0, 15.0):
            for whole in (False, True):
                plan = make_plan(AUGMENTED, left=left, per_view=per_view, whole=whole, small=True)
                total = plan.views * per_view + (plan.on_maps or 0) + (plan.on_pictures or 0)
                assert total == pytest.approx(left)


def test_flips_alone_make_no_views() -> None:
    assert varied(PLAIN) == ()
    assert {"flip"}.isdisjoint(each.name for each in varied(AUGMENTED))
    assert varied(AUGMENTED)


def test_a_batch_is_chosen_where_the_settings_leave_it_open() -> None:
    sizes = {4: 4, 8: 8, 200: 8, 500: 15, 1024: 32, 9000: 32}
    assert {n: with_batch(Recipe(strategy="scratch"), n).batch for n in sizes} == sizes
    assert with_batch(Recipe(strategy="scratch", accumulate=4), 20).batch == 5
    assert with_batch(Recipe(strategy="scratch", batch=16), 21).batch == 16
    with pytest.raises(UsageError, match="batch must be at most the 21 pictures of the training split, got 64"):
        with_batch(Recipe(strategy="scratch", batch=64), 21)
    with pytest.raises(UsageError, match="batch times accumulate must be at most the 3 pictures"):
        with_batch(Recipe(strategy="scratch", accumulate=40), 3)


def test_the_head_that_is_given_gives_the_logits() -> None:
    network = built().network
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(3, 64)).astype(np.float32), draw.normal(size=3).astype(np.float32)
    x = torch.from_numpy(draw.normal(size=(2, 3, 32, 32)).astype(np.float32))
    features = {}
    hook = head(network).register_forward_pre_hook(lambda _, given: features.update(x=given[0]))
    with torch.inference_mode():
        network(x)
    hook.remove()
    give_head(network, weight, bias)
    with torch.inference_mode():
        given = network(x).numpy()
    np.testing.assert_allclose(given, features["x"].numpy() @ weight.T + bias, rtol=1e-4, atol=1e-4)
    with pytest.raises((RuntimeError, UsageError)):
        give_head(network, weight[:, :5], bias)


def test_depths_count_stages_from_the_head() -> None:
    network = built().network  # conv1, conv2_x, conv3_x, conv4_x
    depths = _depths(network, network)
    assert depths["stages.conv1.conv.weight"] == 4
    assert depths["stages.conv4_x.0.conv1.weight"] == 1
    assert depths["classifier.fc.weight"] == 0
    assert set(depths) == {name for name, _ in network.named_parameters()}
