"""A lock keeps other processes out, and goes with the process that held it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graft.disk.lock import locked
from graft.errors import UsageError

HOLD = """
import sys, time
from pathlib import Path
from graft.disk.lock import locked

with locked(Path(sys.argv[1]), taken=""):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=r"^it is taken$"), locked(path, taken="it is taken"):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    with locked(path, taken="it is taken"):
        pass


def test_it_can_be_had_again_after_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), locked(tmp_path / "lock", taken="taken"):
        raise ValueError("stop")
    with locked(tmp_path / "lock", taken="taken"):
        pass
