"""Every example runs as it stands, and says what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SAID = {"decaf": "| features | 1280 | ", "two_digits": "a seven it has never seen: seven"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path, session_cache: Path) -> None:
    environment = {**os.environ, "GRAFT_CACHE": str(session_cache)}
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAID[example.stem] in done.stdout
    assert len(example.read_text(encoding="utf-8").splitlines()) < 60
