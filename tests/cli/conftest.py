"""The command line under the shared cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import command


@pytest.fixture(scope="session")
def environment(session_cache: Path) -> dict[str, str]:
    """What the commands run under: the shared cache, and wide plain output."""
    return {**os.environ, "GRAFT_CACHE": str(session_cache), "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def graft(environment: dict[str, str], tmp_path: Path) -> Callable[..., command.Done]:
    """Run `graft ARGUMENTS` in `tmp_path`; where `python` is to run before it, in a process of its own."""

    def run(*arguments: str | Path, python: str = "") -> command.Done:
        if python:
            return command.alone(arguments, tmp_path, environment, python=python)
        return command.here(arguments, tmp_path, environment)

    return run
