"""`graft schedule` as a user runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Graft = Callable[..., subprocess.CompletedProcess[str]]
SAY_MODULES = (
    "import atexit, sys; atexit.register(lambda: print({n.split('.')[0] for n in sys.modules}, file=sys.stderr)); "
)


def test_a_schedule_is_drawn_without_torch(graft: Graft, tmp_path: Path) -> None:
    done = graft("schedule", "one-cycle", "--epochs", "10", "--warmup", "1", "--svg", "one.svg", python=SAY_MODULES)
    assert done.returncode == 0
    assert done.stdout.startswith("one-cycle: up for the first 30 %")
    assert done.stdout.endswith("wrote one.svg\n")
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").startswith("<?xml")
    imported = eval(done.stderr)
    assert "matplotlib" in imported
    assert not imported & {"torch", "torchvision", "timm", "onnxruntime"}


def test_all_are_listed_without_matplotlib(graft: Graft) -> None:
    done = graft("schedule", python=SAY_MODULES)
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()[2:]} > {"constant", "step", "cosine", "plateau"}
    assert "matplotlib" not in eval(done.stderr)


def test_mistakes_are_one_line(graft: Graft) -> None:
    done = graft("schedule", "cosin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("graft: no schedule 'cosin', there are constant")
    assert done.stderr.endswith("did you mean 'cosine'?\n")
    assert done.stderr.count("\n") == 1
