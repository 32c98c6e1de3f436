"""Runs that are killed at any moment: whole models or none, and the next run gives the same bits."""

from __future__ import annotations

import fcntl
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from command import SCRIPT
from graft.classifier.artefact import load

Graft = Callable[..., subprocess.CompletedProcess[str]]


def started(environment: dict[str, str], *arguments: str | Path) -> subprocess.Popen[str]:
    """A run that hears Ctrl-C even where these tests do not: shells keep it from what they start in the background."""
    return subprocess.Popen(
        (sys.executable, "-c", SCRIPT, *map(str, arguments)), env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_kill_at_ten_moments(
    environment: dict[str, str], digits: Path, session_cache: Path, graft: Graft, tmp_path: Path
) -> None:
    """Each run starts over what the killed ones before it left; a run that was quicker than its kill is undone."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "trunks").symlink_to(session_cache / "trunks")
    few = tmp_path / "few"  # a run spends its time evenly on its parts then
    shutil.copytree(digits, few, ignore=shutil.ignore_patterns("0[5-9].png", "1?.png"))
    began = time.monotonic()
    assert graft("train", few, "--out", "whole").returncode == 0
    lasts = time.monotonic() - began
    drawn = random.Random(0)
    for _ in range(10):
        run = started(environment, "train", few, "--out", tmp_path / "new", "--cache", cache)
        try:
            run.wait(timeout=drawn.uniform(0, lasts))
        except subprocess.TimeoutExpired:
            run.kill()
        run.communicate()
        if (tmp_path / "new").exists():
            load(tmp_path / "new")  # whole, or it would be refused
            (tmp_path / "new").rename(tmp_path / f"done-{run.pid}")
    (tmp_path / ".new.0.tmp").mkdir(exist_ok=True)
    (tmp_path / ".new.0.tmp" / "model.onnx").write_bytes(b"half")
    assert graft("train", few, "--out", "new", "--cache", cache).returncode == 0
    assert not list(tmp_path.glob(".new.*"))
    for name in ("model.safetensors", "model.onnx", "samples.csv"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_leaves_no_model_and_says_so_in_one_line(
    environment: dict[str, str], digits: Path, tmp_path: Path
) -> None:
    run = started(environment, "train", digits, "--out", tmp_path / "new", "--fit", "crop")
    assert run.stderr is not None
    assert run.stderr.readline().startswith("reading pictures")  # it is at work
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate()
    said = [line for line in stderr.splitlines() if line.startswith("graft: ")]
    assert (run.returncode, stdout, len(said)) == (130, "", 1)
    assert said[0].startswith("graft: stopped")
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_two_runs_cannot_write_one_folder(digits: Path, graft: Graft, tmp_path: Path) -> None:
    with (tmp_path / ".new.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ran = graft("train", digits, "--out", "new")
    assert ran.returncode == 2
    assert ran.stderr == "graft: another run is writing new; wait for it, or choose another --out\n"
    assert graft("train", digits, "--out", "new").returncode == 0  # the lock went with the run that held it
    assert json.loads((tmp_path / "new" / "model.json").read_text())["data"]["pictures"] == 80
