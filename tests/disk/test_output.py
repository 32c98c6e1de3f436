"""An output folder is whole or not there, and nothing but a model is ever replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from graft.disk.output import new_folder
from graft.errors import GraftError, UsageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The pictures' folder."""
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def write(out: Path, source: Path, text: str, *, force: bool = False) -> None:
    with new_folder(out, source=source, force=force, mark="model.json") as partial:
        (partial / "model.json").write_text(text)


def fill_the_disk(out: Path, source: Path) -> None:
    with new_folder(out, source=source, force=True, mark="model.json") as partial:
        (partial / "model.json").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_appears_when_the_block_ends_and_leaves_nothing_beside_it(source: Path) -> None:
    out = source.parent / "runs" / "new"
    with new_folder(out, source=source, force=False, mark="model.json") as partial:
        (partial / "model.json").write_text("{}")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["new"]


def test_a_model_is_replaced_only_by_force(source: Path) -> None:
    out = source.parent / "new"
    write(out, source, "first")
    with pytest.raises(UsageError, match="exists already"):
        write(out, source, "second")
    assert (out / "model.json").read_text() == "first"
    write(out, source, "second", force=True)
    assert (out / "model.json").read_text() == "second"
    assert sorted(path.name for path in source.parent.iterdir()) == ["new", "photos"]


def test_force_does_not_replace_what_is_no_model(source: Path) -> None:
    for out in (source.parent / "thesis", source.parent / "note"):
        if out.name == "thesis":
            out.mkdir()
            (out / "chapter.txt").write_text("years of work")
        else:
            out.write_text("a file")
        with pytest.raises(UsageError, match="replaces only what graft made"):
            write(out, source, "{}", force=True)
    assert (source.parent / "thesis" / "chapter.txt").read_text() == "years of work"
    assert (source.parent / "note").read_text() == "a file"


@pytest.mark.parametrize("inside", [".", "new", "cat/new"])
def test_the_pictures_own_folder_is_refused(source: Path, inside: str) -> None:
    with pytest.raises(UsageError, match="inside the pictures' own folder"):
        write(source / inside, source, "{}", force=True)
    assert list(source.iterdir()) == []


def test_a_failure_keeps_the_old_model_and_leaves_nothing_new(source: Path) -> None:
    out = source.parent / "new"
    write(out, source, "first")
    with pytest.raises(GraftError, match="No space left on device; free some space"):
        fill_the_disk(out, source)
    assert (out / "model.json").read_text() == "first"
    assert sorted(path.name for path in source.parent.iterdir()) == ["new", "photos"]


def test_what_a_killed_run_left_is_removed(source: Path) -> None:
    stale = source.parent / ".new.0.tmp"
    stale.mkdir()
    (stale / "model.onnx").write_text("half")
    write(source.parent / "new", source, "{}")
    assert [path.name for path in (source.parent / "new").iterdir()] == ["model.json"]
    assert not stale.exists()


def test_a_second_run_on_the_same_folder_is_refused_while_the_first_lasts(source: Path) -> None:
    out = source.parent / "new"
    with new_folder(out, source=source, force=False, mark="model.json") as partial:
        (partial / "model.json").write_text("first")
        with pytest.raises(UsageError, match="another run is writing"):
            write(out, source, "second")
        assert (partial / "model.json").read_text() == "first"
    assert (out / "model.json").read_text() == "first"


def test_a_parent_that_cannot_be_written_is_named(source: Path) -> None:
    (source.parent / "file").write_text("")
    with pytest.raises(GraftError, match="file/new cannot be written"):
        write(source.parent / "file" / "new", source, "{}")


def test_a_parent_that_is_read_only_is_named(source: Path) -> None:
    parent = source.parent / "locked"
    parent.mkdir(mode=0o500)
    try:
        (parent / "probe").mkdir()
    except PermissionError:
        with pytest.raises(GraftError, match="cannot be written: Permission denied"):
            write(parent / "new", source, "{}")
    else:
        pytest.skip("this user may write everywhere, so nothing is read-only")
