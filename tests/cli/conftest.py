"""The real command line, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-c", "from graft.cli.app import main; main()")


@pytest.fixture(scope="session")
def environment(session_cache: Path) -> dict[str, str]:
    """What the commands run under: the shared cache, and wide plain output."""
    return {**os.environ, "GRAFT_CACHE": str(session_cache), "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def graft(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `graft ARGUMENTS` in `tmp_path`; `python` runs before it in the same process."""

    def run(*arguments: str | Path, python: str = "") -> subprocess.CompletedProcess[str]:
        command = (*COMMAND[:2], python + COMMAND[2], *map(str, arguments))
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run
