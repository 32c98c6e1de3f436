"""`graft curves` as a command: words by default, JSON alone with --json, and the picture where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from graft.cli.commands.curves import curves
from graft.training.loop.history import line_of
from training.checks.drawn_curves import KINDS

app = typer.Typer()
app.command()(curves)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, drawn to overfit."""
    history = KINDS["overfitting"](5000)
    events = [history.start, *sorted((*history.steps, *history.epochs), key=lambda event: event.step), history.end]
    lines = [json.dumps(line_of(event)) for event in events if event is not None]
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_words(run: Path) -> None:
    done = CliRunner().invoke(app, [str(run)])
    assert done.exit_code == 0
    assert "warning  overfitting: right on" in done.stdout


def test_json_and_a_picture(run: Path) -> None:
    picture = run / "curves.png"
    done = CliRunner().invoke(app, [str(run), str(run), "--json", "--out", str(picture)])
    assert done.exit_code == 0
    assert [one["findings"][0]["name"] for one in json.loads(done.stdout)] == ["overfitting", "overfitting"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {picture}" in CliRunner().invoke(app, [str(run), "--out", str(picture)]).stdout
