"""How long work tells whoever watches how far it is: a plain function passed as an argument."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done ("extracting features"), how much of it is done, and of how much (0: unknown)."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""
