"""Archives honest and hostile: what comes out, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from graft.data.sources.archive import Quota, unpack
from graft.data.sources.scan import scan
from graft.errors import BadFolder

PETS = ["cat/1.jpg", "dog/2.jpg"]


def zipped(path: Path, names: Sequence[str | zipfile.ZipInfo], content: bytes = b"pixels") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"" if isinstance(name, str) and name.endswith("/") else content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    ("names", "folder", "expected"),
    [
        (PETS, ".", PETS),
        (["pets/cat/1.jpg", "pets/dog/2.jpg"], "pets", PETS),
        (["a/b/train/cat/1.jpg", "a/b/test/cat/2.jpg"], "a/b", ["test/cat/2.jpg", "train/cat/1.jpg"]),
        (["set/labels.csv", "set/1.jpg"], "set", ["1.jpg", "labels.csv"]),
        (["cat/1.jpg", "cat/2.jpg"], ".", ["cat/1.jpg", "cat/2.jpg"]),
        (["pets\\cat\\1.jpg", "pets\\dog\\2.jpg"], "pets", PETS),
        ([*PETS, "__MACOSX/cat/._1.jpg", ".git/x.jpg", "cat/.DS_Store", "setup.py", "cat/run.sh"], ".", PETS),
    ],
)
def test_pictures_come_out_and_the_folder_to_scan(
    tmp_path: Path, names: list[str], folder: str, expected: list[str]
) -> None:
    found = unpack(zipped(tmp_path / "pets.zip", names), tmp_path / "out")
    assert found == tmp_path / "out" / folder
    assert files(found) == expected
    assert (found / expected[0]).read_bytes() == b"pixels"
    assert sorted(os.listdir(tmp_path)) == ["out", "pets.zip"]


def test_what_comes_out_can_be_scanned(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    names = ["pets/train/cat/1.jpg", "pets/train/dog/2.jpg", "pets/val/cat/3.jpg"]
    found = scan(unpack(zipped(tmp_path / "pets.zip", names), tmp_path / "out"))
    assert [(found.classes[sample.label], sample.split) for sample in found.samples] == [
        ("cat", "train"),
        ("dog", "train"),
        ("cat", "val"),
    ]


def test_row_33_an_empty_class_folder_is_still_seen(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="found none of 'dog'"):
        scan(unpack(zipped(tmp_path / "pets.zip", ["cat/1.jpg", "dog/"]), tmp_path / "out"))


LINK, FIFO, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([*PETS, "../evil.jpg"], "row 28: expected paths that stay in the folder, found ../evil.jpg"),
        ([*PETS, "cat/../../evil.txt"], "row 28: expected paths that stay in the folder"),
        ([*PETS, "..\\evil.jpg"], "row 28: expected paths that stay in the folder"),
        ([*PETS, "/etc/evil.jpg"], "row 28: expected paths that stay in the folder, found /etc/evil.jpg"),
        ([*PETS, "C:\\evil.jpg"], "row 28: expected paths that stay in the folder"),
        ([*PETS, special("cat/passwd.jpg", LINK)], "row 28: expected regular files, found a link, cat/passwd.jpg"),
        ([*PETS, special("cat/pipe.jpg", FIFO)], "row 28: expected regular files, found a device or FIFO"),
        ([*PETS, special("zero", DEVICE)], "row 28: expected regular files, found a device or FIFO"),
        ([*PETS, "Cat/3.jpg"], "row 38: expected names that differ in more than case .* found 'cat' and 'Cat'"),
        ([*PETS, "cat/1.JPG"], "row 38: expected names that differ .* found 'cat/1.jpg' and 'cat/1.JPG'"),
        ([*PETS, "caf\u00e9/1.jpg", "cafe\u0301/1.jpg"], "row 38: expected names that differ"),
        ([*PETS, "cat/1.jpg/3.jpg"], "row 38: expected a file or a folder, found both under cat/1.jpg"),
        ([*PETS, f"cat/{'x' * 300}.jpg"], "row 37: expected to unpack it .* name lengths"),
    ],
)
def test_hostile_members_refuse_the_archive(tmp_path: Path, names: list[str | zipfile.ZipInfo], said: str) -> None:
    archive = zipped(tmp_path / "pets.zip", names)
    with pytest.raises(BadFolder, match=said.split(": ", 1)[1]) as caught:
        unpack(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["pets.zip"]


def test_a_name_listed_twice_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, on writing such an archive
        archive = zipped(tmp_path / "pets.zip", [*PETS, "cat/1.jpg"])
    with pytest.raises(BadFolder, match=r"expected every file once, found cat/1.jpg twice"):
        unpack(archive, tmp_path / "out")


def encrypted(archive: Path) -> Path:
    """Sets the "encrypted" flag of every entry, in its local header and in the directory."""
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    archive.write_bytes(data)
    return archive


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match=r"expected an open archive, found cat/1.jpg encrypted"):
        unpack(encrypted(zipped(tmp_path / "pets.zip", PETS)), tmp_path / "out")
    assert os.listdir(tmp_path) == ["pets.zip"]


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        (Quota(bytes=1_999_999), "expected at most 1,999,999 bytes, found 2,000,000 inside"),
        (Quota(file_bytes=999_999), "expected files of at most 999,999 bytes, found 1,000,000 in cat/1.jpg"),
        (Quota(ratio_from=10**6), "expected at most 100 times its own size inside, found 2,000,000 bytes"),
        (Quota(entries=1), "expected at most 1 files, found 2"),
        (Quota(directory_bytes=50), "expected a directory of at most 50 bytes, found"),
    ],
)
def test_row_29_bombs_are_refused_by_what_they_declare(tmp_path: Path, quota: Quota, said: str) -> None:
    archive = zipped(tmp_path / "pets.zip", PETS, bytes(10**6))
    with pytest.raises(BadFolder, match=said):
        unpack(archive, tmp_path / "out", quota=quota)
    assert os.listdir(tmp_path) == ["pets.zip"]
    assert len(files(unpack(archive, tmp_path / "out"))) == 2


def test_row_29_a_bomb_that_declares_little_is_refused(tmp_path: Path) -> None:
    """The directory and the local header claim 10 bytes; a mebibyte would come out."""
    archive = zipped(tmp_path / "pets.zip", ["cat/1.jpg"], bytes(2**20))
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<I", 2**20), struct.pack("<I", 10)))
    with pytest.raises(BadFolder, match="expected a sound zip, found a damaged one"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["pets.zip"]


def crowded(count: int, *, zip64: bool, comment: bytes = b"", offset: int = 0) -> bytes:
    """A directory of empty entries, `count` of them, whose end records claim that there is one."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"1.jpg"
    directory = entry * count
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), offset, len(comment)) + comment
    if not zip64:
        return directory + end
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), 0)
    return directory + record + struct.pack("<4sIQI", b"PK\6\7", 0, len(directory), 1) + end


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("comment", [b"", b"holiday pictures"])
def test_row_30_a_million_entries_are_counted_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zip64: bool, comment: bytes
) -> None:
    archive = tmp_path / "many.zip"
    archive.write_bytes(crowded(1_000_000, zip64=zip64, comment=comment))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(BadFolder, match="expected at most 500,000 files, found 1,000,000"):
        unpack(archive, tmp_path / "out")


def test_row_30_end_records_that_look_like_two_are_read_as_zipfile_reads_them(tmp_path: Path) -> None:
    archive = tmp_path / "many.zip"
    archive.write_bytes(crowded(3, zip64=False, offset=int.from_bytes(b"PK\5\6", "little")))
    with pytest.raises(BadFolder, match="expected at most 2 files, found 3"):
        unpack(archive, tmp_path / "out", quota=Quota(entries=2))


@pytest.mark.parametrize("comment", [b"", b"x" * 65_535])
@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\n" * 3])
def test_the_directory_is_found_where_zipfile_finds_it(tmp_path: Path, prefix: bytes, comment: bytes) -> None:
    """A comment behind it, or a program before it, moves the directory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in PETS:
            archive.writestr(name, b"pixels")
        archive.comment = comment
    path = tmp_path / "pets.zip"
    path.write_bytes(prefix + file.getvalue())
    with pytest.raises(BadFolder, match="expected at most 1 files, found 2"):
        unpack(path, tmp_path / "out", quota=Quota(entries=1))
    assert files(unpack(path, tmp_path / "out")) == PETS


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    sound = zipped(tmp_path / "pets.zip", PETS, os.urandom(500)).read_bytes()
    for damaged in (b"", b"no zip", sound[:300], sound[:-1], sound[:60] + b"\0\0\0\0" + sound[64:]):
        (tmp_path / "pets.zip").write_bytes(damaged)
        with pytest.raises(BadFolder, match="expected a sound zip, found a damaged one"):
            unpack(tmp_path / "pets.zip", tmp_path / "out")
        assert os.listdir(tmp_path) == ["pets.zip"]


def attempted(archive: Path, into: Path) -> Path | BadFolder:
    try:
        return unpack(archive, into)
    except BadFolder as refusal:
        return refusal


def test_every_flipped_byte_gives_a_folder_or_a_refusal(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "pets.zip", PETS, zlib.compress(b"pixels"))
    sound, refused = archive.read_bytes(), 0
    for at in range(len(sound)):
        archive.write_bytes(sound[:at] + bytes([sound[at] ^ 0x5A]) + sound[at + 1 :])
        outcome = attempted(archive, tmp_path / "out")
        if isinstance(outcome, BadFolder):
            refused += 1
            assert os.listdir(tmp_path) == ["pets.zip"]
        else:
            shutil.rmtree(tmp_path / "out")
    assert 100 < refused < len(sound)


def test_places_that_cannot_take_it(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "pets.zip", PETS)
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").touch()
    for source, into, said in [
        (archive, tmp_path / "full", "expected a new or empty folder to unpack into"),
        (archive, tmp_path / "absent" / "out", "create that first"),
        (tmp_path / "pipe.zip", tmp_path / "out", "expected a zip archive, found no regular file"),
        (tmp_path / "absent.zip", tmp_path / "out", "expected a zip archive, found no regular file"),
    ]:
        with pytest.raises(BadFolder, match=said):
            unpack(source, into)
    assert files(tmp_path / "full") == ["kept.txt"]
