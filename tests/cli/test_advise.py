"""`graft advise` as a command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Graft = Callable[..., subprocess.CompletedProcess[str]]


def test_it_prints_table_measurements_and_decision_without_torch(digits: Path, graft: Graft, tmp_path: Path) -> None:
    tell = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    ran = graft("advise", digits, "--json", "advice.json", "--out", "advice.html", python=tell)
    assert ran.returncode == 0
    assert ran.stderr.splitlines()[-1] == "False"
    lines = ran.stdout.splitlines()
    said = json.loads((tmp_path / "advice.json").read_text())
    assert f"[{said['cell']['words']}]" in lines[1]
    assert f"Advice: {said['decision']['words']}." in lines
    assert lines[-2:] == ["wrote advice.json", "wrote advice.html"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["absent"], 1, "absent"),
        (["{digits}", "--network", "efficientnet-lite9"], 2, "did you mean 'efficientnet-lite"),
        (["{digits}", "--network", "lenet5"], 2, "is for training from scratch"),
        (["{digits}", "--fit", "sqash"], 2, "did you mean 'squash'"),
        (["{digits}", "--weights", "absent.pt"], 1, "absent.pt is not one"),
        (["{digits}", "--out", "page.pdf"], 2, "--out must end in .html"),
        (["{digits}", "--sed", "1"], 2, "No such option"),
    ],
)
def test_mistakes_are_one_line(digits: Path, graft: Graft, arguments: list[str], status: int, says: str) -> None:
    ran = graft("advise", *(argument.format(digits=digits) for argument in arguments))
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (status, "", 1)
    assert says in ran.stderr
