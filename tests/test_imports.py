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
    "disk": (),
    "evaluate": (),
    "models": (),
    "analysis": (),
    "runtime": (),
    "data": ("disk",),
    "classifier": ("disk", "data", "models", "runtime", "evaluate"),
    "features": ("disk", "data", "models", "runtime", "evaluate"),
    "heads": ("classifier", "evaluate", "features", "models", "runtime"),
    "training": ("disk", "data", "evaluate", "models"),
    "finetune": ("disk", "data", "evaluate", "features", "models", "runtime", "training"),
    "strategy": ("evaluate", "features", "heads"),
    "lessons": ("disk", "analysis", "training"),
}
ROOMS["pages"] = tuple(room for room in ROOMS if room not in ("models", "classifier", "finetune"))
ROOMS["run"] = tuple(room for room in ROOMS if room not in ("analysis", "lessons"))
ROOMS["jobs"] = tuple(ROOMS)
ROOMS["cli"] = tuple(ROOMS)
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
import graft.data.sources.scan as s, json
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from graft.models.card import Card
def f():
    from graft import disk
    from graft.runtime.onnx import OnnxRunner
"""
    assert rooms_of(source) == {"data", "models", "disk", "runtime"}


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
    found = rooms_of((SRC / "__init__.py").read_text(encoding="utf-8"))
    assert found == {"analysis", "classifier", "errors", "evaluate", "jobs", "training"}


def test_the_table_has_no_circle() -> None:
    done: set[str] = set()
    while ready := {room for room, may in ROOMS.items() if room not in done and set(may) <= done}:
        done |= ready
    assert done == set(ROOMS)


def test_a_network_of_our_own_is_built_and_trained_without_what_is_slow_to_import() -> None:
    """timm and torchvision take longer to import than torch itself: a mistake would be told seconds later."""
    code = (
        "import sys, graft.training.loop.fit; from graft.models.fresh import fresh, plan;"
        "fresh(plan('lenet5'), num_classes=10, seed=0);"
        "print(*(name for name in ('timm', 'torchvision', 'onnx') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_is_over_400_lines(file: Path) -> None:
    assert len((SRC / file).read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("folder", sorted({SRC / file.parent for file in FILES}), ids=lambda f: str(f.relative_to(SRC)))
def test_a_folder_holds_at_most_15_files_unless_they_are_a_list(folder: Path) -> None:
    """A list of alike things, such as one command a file, may grow: none of its files imports another."""
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    inside = {f"graft.{'.'.join(path.relative_to(SRC).with_suffix('').parts)}" for path in files}
    together = [path for path in files if inside & set(modules(path))]
    assert len(files) <= 15 or not together, f"{len(files)} files, and {together[0].name} imports another of them"


def test_no_file_imports_itself_by_way_of_others() -> None:
    imports = {f"graft.{'.'.join(file.with_suffix('').parts)}": set(modules(SRC / file)) for file in FILES}
    done: set[str] = set()
    while ready := {file for file, needs in imports.items() if file not in done and needs & set(imports) <= done}:
        done |= ready
    left = sorted(set(imports) - done)
    assert not left, f"these import each other in a circle, or one of a circle: {left}"


def modules(file: Path) -> Iterator[str]:
    """The modules of graft that a file imports, each by its own name; those for type checking alone count too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
