"""`graft search`, as it is typed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Graft = Callable[..., subprocess.CompletedProcess[str]]


def test_it_prints_two_rankings_and_writes_a_page(model: Path, digits: Path, graft: Graft, tmp_path: Path) -> None:
    query = digits / "4" / "00.png"
    ran = graft("search", model, query, "--in", digits, "-k", "3", "--out", "near.html")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == f"nearest to {query} of 80 pictures in {digits}"
    assert lines[2] == "in feature space, cosine:"
    assert lines[6] == "in pixel space, L2:"
    assert [line.split()[0] for line in lines[3:6] + lines[7:10]] == ["1", "2", "3"] * 2
    assert lines[-1].split() == ["drawn", "at", "random", "24.1", "%"]
    assert (tmp_path / "near.html").read_text().count("data:image/jpeg") == 7
    said = json.loads(graft("search", model, query, "--in", digits, "-k", "3", "--json", "--metric", "l2").stdout)
    assert [len(said[space]["nearest"]) for space in ("feature", "pixel")] == [3, 3]
    assert said["feature"]["metric"] == "l2"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("search model 0/00.png", 2, "--in"),
        ("search model 0/00.png --in nowhere", 1, "nothing there"),
        ("search model 0/0.png --in .", 1, "0/0.png"),
        ("search model 0 --in .", 1, "expected a picture file"),
        ("search modell 0/00.png --in .", 1, "is not a folder"),
        ("search model 0/00.png --in . -k 0", 2, "between 1 and 1,000, got 0"),
        ("search model 0/00.png --in . --metric cosne", 2, "did you mean 'cosine'?"),
        ("search model 0/00.png --in . --out near.png", 2, "must end in .html"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(
    model: Path, digits: Path, graft: Graft, tmp_path: Path, arguments: str, status: int, words: str
) -> None:
    (tmp_path / "model").symlink_to(model)
    for folder in digits.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    ran = graft(*arguments.split())
    said = [line for line in ran.stderr.splitlines() if line.startswith("graft: ")]
    assert (ran.returncode, ran.stdout, len(said)) == (status, "", 1), ran.stderr
    assert words in said[0]
