"""The store: rows come back bit for bit, whatever else writes, dies or cleans up meanwhile."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from graft.disk.table import KEY_BYTES, Store, Table
from graft.errors import GraftError

ROW = np.dtype(("<f2", (7,)))


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:KEY_BYTES]


def row(number: int) -> NDArray[np.float16]:
    return np.random.default_rng(number).normal(size=7).astype("<f2")


def fill(table: Table, numbers: range) -> None:
    table.append([key(n) for n in numbers], np.stack([row(n) for n in numbers]))


def holds(table: Table, numbers: range) -> None:
    """Every one of these rows is there, bit for bit."""
    places = table.locate([key(n) for n in numbers])
    assert places.shape == (len(numbers), 2)
    assert table.gather(places).tobytes() == np.stack([row(n) for n in numbers]).tobytes()


def test_rows_come_back_bit_for_bit_in_the_order_asked(tmp_path: Path) -> None:
    table = Store(tmp_path).table("t", ROW)
    fill(table, range(5))
    fill(table, range(5, 9))
    special = np.array([[np.nan, np.inf, -np.inf, -0.0, 6e-8, 65504, 1]], "<f2")
    table.append([key(100)], special)
    for opened in (table, Store(tmp_path).table("t", ROW)):
        assert len(opened) == 10
        holds(opened, range(8, -1, -1))
        holds(opened, range(0, 9, 2))
        assert opened.gather(opened.locate([key(100)])).tobytes() == special.tobytes()
        assert key(3) in opened
        assert key(9) not in opened
        with pytest.raises(KeyError):
            opened.locate([key(9)])
        assert opened.gather(opened.locate([])).shape == (0, 7)


def test_rows_of_records(tmp_path: Path) -> None:
    kind = np.dtype([("digest", "u1", (4,)), ("width", "<u4"), ("grey", "?")])
    rows = np.array([([1, 2, 3, 4], 640, True), ([5, 6, 7, 8], 480, False)], kind)
    Store(tmp_path).table("facts", kind).append([key(0), key(1)], rows)
    opened = Store(tmp_path).table("facts", kind)
    assert opened.gather(opened.locate([key(1), key(0)])).tobytes() == rows[::-1].tobytes()


def test_two_writers_lose_nothing_and_the_same_key_may_come_twice(tmp_path: Path) -> None:
    one, other = Store(tmp_path).table("t", ROW), Store(tmp_path).table("t", ROW)
    fill(one, range(4))
    fill(other, range(2, 6))
    assert (len(one), len(other)) == (4, 4)
    both = Store(tmp_path).table("t", ROW)
    assert len(both) == 6
    holds(both, range(6))


def test_tables_and_kinds_of_rows_are_kept_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store.table("t", ROW), range(3))
    assert len(store.table("u", ROW)) == 0
    assert len(store.table("t", ROW)) == 3


@pytest.mark.parametrize("length", [0, 3, 40, 200, 305, -1])
def test_a_truncated_segment_is_removed_and_the_rest_kept(tmp_path: Path, length: int) -> None:
    table = Store(tmp_path).table("t", ROW)
    fill(table, range(5))
    (whole,) = (tmp_path / "t").glob("*.npy")
    damaged = whole.with_name("0" * 32 + ".npy")
    damaged.write_bytes(whole.read_bytes()[:length])
    opened = Store(tmp_path).table("t", ROW)
    assert len(opened) == 5
    holds(opened, range(5))
    assert sorted((tmp_path / "t").iterdir()) == [whole]


def test_a_segment_of_another_kind_or_with_more_behind_it_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    np.save(folder / "a.npy", np.zeros((3, 7), "<f2"))
    np.save(folder / "b.npy", np.zeros((), "<f2"))
    np.save(folder / "c.npy", np.array([{"an": "object"}], object), allow_pickle=True)
    (folder / "d.npy").write_bytes(b"<html>not a table</html>" * 20)
    fill(Store(tmp_path).table("t", ROW), range(2))
    (longer,) = folder.glob("*.npy")
    longer.write_bytes(longer.read_bytes() + b"\0")
    assert len(Store(tmp_path).table("t", ROW)) == 0
    assert list(folder.iterdir()) == []


def test_what_a_killed_run_left_half_written_is_ignored_and_after_an_hour_removed(tmp_path: Path) -> None:
    table = Store(tmp_path).table("t", ROW)
    fill(table, range(2))
    (whole,) = (tmp_path / "t").glob("*.npy")
    old, young = tmp_path / "t" / "old.tmp", tmp_path / "t" / "young.tmp"
    for left in (old, young):
        left.write_bytes(whole.read_bytes()[:150])
    os.utime(old, (time.time() - 4000,) * 2)
    assert len(Store(tmp_path).table("t", ROW)) == 2
    assert Store(tmp_path).trim() == 0
    assert sorted((tmp_path / "t").iterdir()) == sorted([whole, young])


def _append_for_ever(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    table = Store(folder).table("t", ROW)
    for start in range(0, 10**9, 50):
        fill(table, range(start, start + 50))
        ready.set()


def test_a_writer_that_is_killed_leaves_only_whole_segments(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_append_for_ever, args=(tmp_path, ready))
    writer.start()
    assert ready.wait(60)
    time.sleep(0.1)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    opened = Store(tmp_path).table("t", ROW)
    assert len(opened) >= 50
    assert len(opened) % 50 == 0
    holds(opened, range(len(opened)))


def _append_some(folder: Path, start: int) -> None:
    table = Store(folder).table("t", ROW)
    for first in range(start, start + 100, 10):
        fill(table, range(first, first + 10))


def test_two_processes_write_one_table(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_some, args=(tmp_path, start)) for start in (0, 60)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    opened = Store(tmp_path).table("t", ROW)
    assert len(opened) == 160
    holds(opened, range(160))


def segments(folder: Path, count: int) -> list[Path]:
    """Tables of one segment of ten rows each, the first read longest ago."""
    found = []
    for number in range(count):
        fill(Store(folder).table(f"t{number}", ROW), range(10 * number, 10 * number + 10))
        (path,) = (folder / f"t{number}").glob("*.npy")
        os.utime(path, (1_000_000 + number,) * 2)
        found.append(path)
    return found


def test_trim_removes_what_was_read_longest_ago_until_the_store_fits(tmp_path: Path) -> None:
    paths = segments(tmp_path, 5)
    size = paths[0].stat().st_size
    Store(tmp_path).table("t0", ROW)  # read now
    assert Store(tmp_path, limit=5 * size).trim() == 0
    assert Store(tmp_path, limit=3 * size).trim() == 2 * size
    assert [path.exists() for path in paths] == [True, False, False, True, True]
    assert Store(tmp_path, limit=3 * size - 1).trim() == size
    assert [path.exists() for path in paths] == [True, False, False, False, True]
    assert Store(tmp_path, limit=0).trim() == 2 * size


def test_a_reader_keeps_reading_a_segment_that_was_removed(tmp_path: Path) -> None:
    table = Store(tmp_path).table("t", ROW)
    fill(table, range(20))
    assert Store(tmp_path, limit=0).trim() > 0
    assert list((tmp_path / "t").iterdir()) == []
    holds(table, range(20))
    fill(table, range(20, 30))
    holds(table, range(30))


def test_trim_of_a_store_that_is_not_there(tmp_path: Path) -> None:
    assert Store(tmp_path / "absent").trim() == 0


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    table = Store(tmp_path).table("t", ROW)
    fill(table, range(4))
    before = sorted((tmp_path / "t").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write past the limit is an OSError
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(GraftError, match=r"the cache cannot be written: .*; free some space or give") as caught:
            fill(table, range(4, 1004))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert sorted((tmp_path / "t").iterdir()) == before
    assert len(table) == 4
    fill(table, range(4, 1004))
    holds(table, range(1004))


def test_a_file_in_the_folder_s_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    table = Store(tmp_path / "cache").table("t", ROW)
    with pytest.raises(GraftError, match="the cache cannot be written") as caught:
        fill(table, range(4))
    assert "\n" not in str(caught.value)


def test_a_table_is_opened_without_reading_its_rows(tmp_path: Path) -> None:
    wide = np.dtype(("<f2", (2**16,)))
    rows = np.arange(8 * 2**16, dtype=np.uint16).view("<f2").reshape(8, -1)
    Store(tmp_path).table("wide", wide).append([key(n) for n in range(8)], rows)
    (path,) = (tmp_path / "wide").glob("*.npy")
    with path.open("rb") as stream:
        assert np.load(stream).tobytes() == b"".join(key(n) for n in range(8))
        assert np.load(stream).tobytes() == rows.tobytes()
        assert stream.read() == b""


def test_room_is_made_by_removing_what_was_read_longest_ago(tmp_path: Path) -> None:
    paths = segments(tmp_path, 3)
    size = paths[0].stat().st_size
    store = Store(tmp_path, limit=3 * size)
    store.make_room(2 * size - 1, what="maps")
    assert [path.exists() for path in paths] == [False, False, True]
    Store(tmp_path, limit=10 * size).make_room(9 * size, what="maps")
    assert paths[2].exists()


def test_room_that_cannot_be_had_is_one_line_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = segments(tmp_path, 2)
    store = Store(tmp_path, limit=30 * 10**9)
    with pytest.raises(GraftError, match=r"^maps take 30\.1 GB on the disk, and the cache may hold 30\.0 GB; ask for"):
        store.make_room(30_100_000_000, what="maps")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**11, 0, 5 * 10**9))
    with pytest.raises(GraftError, match=r"^maps take 6\.0 GB on the disk, and 4\.7 GB are to be had at .*; free some"):
        store.make_room(6 * 10**9, what="maps")
    with pytest.raises(GraftError, match=r"^maps take 6\.0 GB"):
        Store(tmp_path / "not" / "yet").make_room(6 * 10**9, what="maps")
    assert all(path.exists() for path in paths)
    store.make_room(4 * 10**9, what="maps")
