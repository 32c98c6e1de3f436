"""What `import graft` offers, what it costs, and that all of it is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import graft

SRC = Path(graft.__file__).parent
EXPORTS = [
    "Analysis", "BadFolder", "BadModel", "BadPicture", "GraftError", "Interval", "Model", "Prediction", "Recipe",
    "Scores", "UsageError", "advise", "analyze", "audit", "curves", "load", "networks", "search", "train",
]  # fmt: skip
COMMANDS = (
    *("train", "predict", "demo", "audit", "info", "evaluate", "networks", "analyze", "compare", "augment", "check"),
    *("curves", "schedule", "playground", "search", "advise"),
)
HEAVY = ("torch", "timm", "onnx", "onnxruntime", "numpy", "PIL", "scipy")


def modules_after(code: str) -> set[str]:
    """The top-level modules that stand imported after a piece of code has run in a fresh interpreter."""
    tail = "\nimport sys; print(*{name.split('.')[0] for name in sys.modules}, sep='\\n', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_exports() -> None:
    assert sorted(graft.__all__) == dir(graft) == EXPORTS
    for name in EXPORTS:
        assert getattr(graft, name).__name__ == name


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'graft' has no attribute 'trian'"):
        _ = graft.trian


def test_importing_graft_imports_nothing_heavy() -> None:
    found = modules_after("import graft; graft.GraftError")
    assert "graft" in found
    assert not found & set(HEAVY)


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from graft.cli.app import main
sys.argv = ['graft', *{words!r}, '--help']
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    found = modules_after(code)
    assert "typer" in found
    assert not found & set(HEAVY)


def public_without_docstring(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [] if ast.get_docstring(tree) or not tree.body else [str(file)]
    owners: list[tuple[str, ast.Module | ast.ClassDef]] = [("", tree)]
    owners += [(f"{n.name}.", n) for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    for prefix, owner in owners:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            overloaded = any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
            described_by_its_class = node.name == "forward"
            if ast.get_docstring(node) is None and not overloaded and not described_by_its_class:
                found.append(f"{file.relative_to(SRC)}: {prefix}{node.name}")
    return found


def test_everything_public_has_a_docstring() -> None:
    assert [name for file in sorted(SRC.rglob("*.py")) for name in public_without_docstring(file)] == []


def test_the_package_is_typed_and_says_its_version() -> None:
    from importlib.metadata import version

    assert (SRC / "py.typed").is_file()
    said = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['graft', '--version']; from graft.cli.app import main; main()"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == f"graft {version('graft')}\n"
