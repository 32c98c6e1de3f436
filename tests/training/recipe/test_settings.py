"""Settings: TOML there and back, and every bad value refused in one line."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import fields
from typing import Any

import pytest

from graft.errors import UsageError
from graft.training.recipe.read import read_toml
from graft.training.recipe.settings import Recipe

EVERYTHING = Recipe(
    strategy="scratch",
    epochs=3, budget=90.0, batch=64, accumulate=2, optimizer="adamw", rate=1e-5, momentum=0.0,
    weight_decay=0.0, l1=1e-6, l2=1e-4, max_norm=3.0, dropout=0.5, dropconnect=0.1, stochastic_depth=0.2,
    activation="relu", initialization="he", schedule="one-cycle", warmup=0.5, loss="svm", label_smoothing=0.0,
    class_weights="balanced", augment="flip,crop", mixup=0.2, cutmix=0.0, normalization="mean-image",
    precision="bfloat16", channels_last=False, clip=1.0, ema=0.999, keep="last", patience=5, seed=2**62,
    tensorboard=True, layer_decay=0.4, head_epochs=1.0, unfreeze="gradual", frozen_statistics=True,
)  # fmt: skip


@pytest.mark.parametrize("settings", [Recipe(strategy="scratch"), EVERYTHING])
def test_toml_gives_the_settings_back(settings: Recipe) -> None:
    assert Recipe(**read_toml(settings.to_toml())) == settings


def test_toml_names_every_setting_with_its_help_and_holds_those_that_are_set() -> None:
    text = Recipe(strategy="scratch").to_toml()
    recorded = Recipe(strategy="scratch").recorded()
    for setting in fields(Recipe):
        if setting.name not in recorded:
            assert setting.name in ("csv", "weights", "cache", "device", "resume")  # of this machine and this run
            continue
        assert f"{setting.name} =" in text
        assert setting.metadata["help"] in text
    assert tomllib.loads(text) == {name: value for name, value in recorded.items() if value is not None}


def test_every_setting_was_tried() -> None:
    default = Recipe(strategy="scratch")
    same = {each for each in default.trained_by() if getattr(default, each) == getattr(EVERYTHING, each)}
    assert same == {"label_smoothing", "cutmix"}  # an SVM has no smoothing, and mixup excludes CutMix


def test_whole_numbers_are_taken_for_floats() -> None:
    assert Recipe(**read_toml("rate = 1\nbudget = 300")).rate == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": -0.1}, "rate must be above 0 and finite, got -0.1"),
        ({"rate": 0.0}, "rate must be above 0 and finite, got 0.0"),
        ({"rate": float("nan")}, "rate must be above 0 and finite, got nan"),
        ({"rate": float("inf")}, "rate must be above 0 and finite, got inf"),
        ({"batch": 0}, "batch must be 1 or more pictures, got 0"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"momentum": 1.0}, "momentum must be 0 or more and less than 1, got 1.0"),
        ({"weight_decay": float("inf")}, "weight_decay must be 0 or more, and finite, got inf"),
        ({"l1": float("nan")}, "l1 must be 0 or more, and finite, got nan"),
        ({"seed": -1}, "seed must be 0 or more and below 2⁶³, got -1"),
        ({"clip": 0.0}, "clip must be above 0 and finite, got 0.0"),
        ({"patience": 0}, "patience must be 1 or more epochs, got 0"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1, got 0.0"),
        ({"layer_decay": 1.5}, "layer_decay must be above 0 and at most 1, got 1.5"),
        ({"head_epochs": -1}, "head_epochs must be 0 or more epochs, and finite, got -1"),
        ({"unfreeze": "at once"}, "unfreeze must be one of at-once, gradual, got 'at once'; did you mean 'at-once'?"),
        ({"optimizer": "random-search", "unfreeze": "gradual"}, "random-search changes all weights at once"),
        ({"keep": "bets"}, "keep must be one of best, last, got 'bets'; did you mean 'best'?"),
        ({"precision": "float16"}, "precision must be one of auto, float32, bfloat16, got 'float16'; did you mean"),
        ({"batch": "many"}, "batch must be int or left out, got 'many'"),
        ({"batch": 2.5}, "batch must be int or left out, got 2.5"),
        ({"epochs": True}, "epochs must be int, got True"),
        ({"rate": "fast"}, "rate must be float or left out, got 'fast'"),
        ({"tensorboard": 1}, "tensorboard must be bool, got 1"),
        ({"optimizer": "adamm"}, "did you mean 'adam'?"),
        ({"schedule": "cosin"}, "did you mean 'cosine'?"),
        ({"loss": "crossentropy"}, "did you mean 'cross-entropy'?"),
        ({"augment": "flip,corp"}, "did you mean 'crop'?"),
        ({"mixup": 0.2, "cutmix": 1.0}, "one of mixup and cutmix can be on, got 0.2 and 1.0"),
        ({"loss": "svm", "label_smoothing": 0.1}, "label smoothing belongs to cross-entropy"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(strategy="scratch", **values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rat = 0.1", "there is no setting 'rat'; did you mean 'rate'?"),
        ("rate = ", "the settings are not valid TOML"),
        ("rate = [1]", "rate must be float or left out, got '[1]'"),
        ("[rate]\nx = 1", "rate must be float or left out"),
    ],
)
def test_bad_toml_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(**read_toml(text))
    assert message in str(caught.value).replace("got [1]", "got '[1]'")
    assert "\n" not in str(caught.value)


def test_settings_import_no_torch() -> None:
    program = "import sys; from graft.training.recipe.settings import Recipe; Recipe();print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
