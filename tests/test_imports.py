"""The rooms of the package, and which of them each may import: the design's table, checked against every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "graft"

ROOMS = {
    "data": (),
    "models": (),
    "analysis": (),
    "runtime": (),
    "store": (),
    "classifier": ("data", "models"),
    "evaluate": ("data", "runtime", "classifier"),
    "training": ("data", "store", "evaluate"),
    "transfer": ("data", "models", "store", "runtime", "classifier", "evaluate", "training"),
    "report": ("evaluate",),
    "jobs": (
        *("data", "models", "analysis", "runtime", "store"),
        *("classifier", "evaluate", "training", "transfer", "report"),
    ),
    "cli": ("jobs",),
}
EVERYBODY_MAY = ("errors", "progress")
FILES = sorted(path.relative_to(SRC) for path in SRC.rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all modules that a file imports, at its top, in its functions and for type checking alike."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield str(node.module)
            if node.module == "graft":
                yield from (f"graft.{alias.name}" for alias in node.names)


def rooms_of(source: str) -> set[str]:
    """The rooms of graft (or root modules) that a piece of source imports from."""
    names = [name.split(".") for name in imported(ast.parse(source))]
    return {name[1] for name in names if name[0] == "graft" and len(name) > 1}


def test_reader_of_imports_sees_every_form() -> None:
    source = """
import graft.data.scan as s, json
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from graft.models.card import Card
def f():
    from graft import store
    from graft.runtime.onnx import OnnxRunner
"""
    assert rooms_of(source) == {"data", "models", "store", "runtime"}


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "__init__.py" or len(f.parts) > 1], ids=str)
def test_imports_keep_to_the_table(file: Path) -> None:
    room = file.parts[0].removesuffix(".py")
    found = rooms_of((SRC / file).read_text(encoding="utf-8")) - {room, *EVERYBODY_MAY}
    if room in EVERYBODY_MAY:
        assert not found, f"{file} must import no room, it imports {sorted(found)}"
        return
    assert room in ROOMS, f"{file} stands in no room of the table"
    assert found <= set(ROOMS[room]), f"{file} may import {ROOMS[room]}, it imports {sorted(found)}"


def test_the_front_page_names_modules_of_the_jobs_and_what_they_return_only() -> None:
    assert rooms_of((SRC / "__init__.py").read_text(encoding="utf-8")) == {"analysis", "errors", "evaluate", "jobs"}


def test_the_table_has_no_circle() -> None:
    done: set[str] = set()
    while ready := {room for room, may in ROOMS.items() if room not in done and set(may) <= done}:
        done |= ready
    assert done == set(ROOMS)


def test_a_network_of_our_own_is_built_and_trained_without_what_is_slow_to_import() -> None:
    """timm and torchvision take longer to import than torch itself: a mistake would be told seconds later."""
    code = (
        "import sys, graft.training.loop; from graft.models.fresh import fresh, plan;"
        "fresh(plan('lenet5'), num_classes=10, seed=0);"
        "print(*(name for name in ('timm', 'torchvision', 'onnx') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_is_over_400_lines(file: Path) -> None:
    assert len((SRC / file).read_text(encoding="utf-8").splitlines()) <= 400
