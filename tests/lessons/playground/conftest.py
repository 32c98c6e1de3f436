"""The digits, read once: they come as text, which takes a second or two."""

from __future__ import annotations

import pytest

from graft.lessons.playground.points import Points, small_digits


@pytest.fixture(scope="session")
def all_digits() -> Points:
    """The 5,000 small digits, in the order that seed 3 gives."""
    return small_digits(5000, seed=3)
