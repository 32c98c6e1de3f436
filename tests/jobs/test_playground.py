"""`graft playground`: what it writes and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from graft.errors import GraftError, UsageError
from graft.jobs import playground
from graft.lessons.playground import gallery


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that need no training."""
    drawn = tuple(gallery.Picture(name, "Title", "Sentence.", name.encode()) for name in gallery.names()[:-1])
    monkeypatch.setattr(gallery, "pictures", lambda _progress: drawn)


def test_the_pictures_and_their_page_are_written(tmp_path: Path) -> None:
    page = playground.run(tmp_path / "new" / "pictures")
    assert page == tmp_path / "new" / "pictures" / "index.html"
    assert {path.name for path in page.parent.iterdir()} == set(gallery.names())
    assert (page.parent / "features.png").read_bytes() == b"features.png"
    assert page.read_text(encoding="utf-8").count("<p>Sentence.</p>") == 7


def test_files_are_replaced_only_when_told_and_others_never(tmp_path: Path) -> None:
    for name in ("optimizers.png", "mine.txt"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=r"holds optimizers\.png already; .* --force"):
        playground.run(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("optimizers.png", "mine.txt"), "mine"
    )
    playground.run(tmp_path, force=True)
    assert (tmp_path / "optimizers.png").read_bytes() == b"optimizers.png"
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GraftError, match=r"cannot be written") as caught:
        playground.run(tmp_path / "file" / "pictures")
    assert "\n" not in str(caught.value)


def test_stopped_while_drawing_it_leaves_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_progress: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "pictures", stop)
    with pytest.raises(KeyboardInterrupt):
        playground.run(tmp_path / "pictures")
    assert list((tmp_path / "pictures").iterdir()) == []
