"""Files and folders that are whole or not there, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from graft.disk import files
from graft.disk.cache import cache_folder
from graft.disk.files import whole_file, whole_folder, write_whole
from graft.errors import GraftError


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    with whole_file(target) as partial:
        partial.write_bytes(b"new")
        assert not target.exists()
        assert partial.parent == target.parent
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("moment", ["while it is written", "before it is renamed"])
def test_what_stood_there_is_as_it_was_when_the_block_fails(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    if moment == "before it is renamed":
        monkeypatch.setattr(files, "flush", lambda _path: (_ for _ in ()).throw(OSError(errno.EIO, "input/output")))
    with pytest.raises(OSError), whole_file(target) as partial:  # noqa: PT011, PT012
        partial.write_bytes(b"half")
        if moment == "while it is written":
            raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line_for_a_file_that_the_user_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GraftError, match=r"^cannot write .*page\.html: No space left on device; choose another file$"):
        write_whole(tmp_path / "page.html", b"x")
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_the_same_file_leave_one_of_them_whole(tmp_path: Path) -> None:
    target, contents = tmp_path / "file", [bytes([i]) * 100_000 for i in range(4)]
    threads = [threading.Thread(target=write_whole, args=(target, content)) for content in contents * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_takes_the_place_of_another_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(ValueError, match="stop"), whole_folder(target) as partial:  # noqa: PT012
        (partial / "new").touch()
        raise ValueError("stop")
    assert [path.name for path in target.iterdir()] == ["old"]
    with whole_folder(target) as partial:
        (partial / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="the place of caches on Linux")
def test_the_cache_lies_where_it_was_asked_for_or_where_the_system_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "named"))
    assert cache_folder(tmp_path / "asked") == tmp_path / "asked"
    assert cache_folder(None) == tmp_path / "named"
    monkeypatch.delenv("GRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(None) == tmp_path / "xdg" / "graft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / ".cache" / "graft"
