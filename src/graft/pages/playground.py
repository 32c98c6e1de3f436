"""The page of `graft playground`: every experiment's picture with the sentence that says what to see in it."""

from __future__ import annotations

from collections.abc import Sequence

from graft.lessons.playground.gallery import Picture
from graft.pages.page import page


def playground_page(pictures: Sequence[Picture]) -> str:
    """The page as HTML text, pictures inside."""
    return page("playground.html.j2", title="graft playground", pictures=pictures)
