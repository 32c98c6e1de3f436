"""The command line as a user has it: its words, its output and its status, in this process or in one of its own."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from graft.cli.app import main

SCRIPT = "from graft.cli.app import main; main()"

Done = subprocess.CompletedProcess[str]


def here(arguments: Sequence[str | Path], where: Path, environment: Mapping[str, str]) -> Done:
    """`graft ARGUMENTS` in the folder `where`, without the seconds that a process takes to import what this one has."""
    words = [str(argument) for argument in arguments]
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    collecting = gc.get_threshold()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(where)
        patch.setattr(sys, "argv", ["graft", *words])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as end:
            status = end.code
        finally:
            gc.set_threshold(*collecting)
    assert isinstance(status, int)
    said = [stream.buffer.getvalue().decode() for stream in (stdout, stderr)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, status, *said)


def alone(arguments: Sequence[str | Path], where: Path, environment: Mapping[str, str], *, python: str = "") -> Done:
    """The same in a process of its own, with no other environment, in which `python` runs before it."""
    command = (sys.executable, "-c", python + SCRIPT, *map(str, arguments))
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
