"""The flags that are made from the settings: what their help says of defaults."""

from __future__ import annotations

import pytest

from graft.cli.commands.train import train
from graft.training.recipe.settings import Recipe


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("layer_decay", "(default: 1.0; when fine-tuning: 0.85)"),
        ("rate", "(default when fine-tuning: 0.0001)"),
        ("momentum", "(default: 0.9)"),
        ("clip", "largest norm of the whole gradient"),
    ],
)
def test_help_says_both_defaults_where_they_differ(name: str, said: str) -> None:
    """As the two kinds of settings have them."""
    help_ = train.__annotations__[name].__metadata__[0].help
    assert help_.endswith(said)
    scratch, tuned = getattr(Recipe(strategy="scratch"), name), getattr(Recipe(), name)
    assert ("when fine-tuning" in help_) == (scratch != tuned)
    assert scratch is None or f"default: {scratch}" in help_
    assert tuned is None or str(tuned) in help_
