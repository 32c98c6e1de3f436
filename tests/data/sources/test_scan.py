"""Folders of every shape, against what a person would say stands in them; rows are those of the list of bad inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from graft.data.sources.scan import Collection, picture_paths, scan
from graft.errors import BadFolder


def build(root: Path, *names: str) -> Path:
    """Files at these paths below root, folders where the path ends in a slash. Nothing in a scan opens them."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def told(found: Collection) -> list[tuple[str, str, str | None]]:
    """(path below the root, class, split) of every sample."""
    return [(os.path.relpath(s.path, found.root), found.classes[s.label], s.split) for s in found.samples]


def reasons(found: Collection) -> dict[str, str]:
    return {os.path.relpath(problem.path, found.root): problem.reason for problem in found.problems}


def test_class_folders(tmp_path: Path) -> None:
    found = scan(build(tmp_path, "dog/b.JPG", "dog/a.png", "cat/tabby/old/1.webp", "cat/2.tiff", "10/x.gif", "9/x.bmp"))
    assert found.classes == ("10", "9", "cat", "dog")
    assert told(found) == [
        ("10/x.gif", "10", None),
        ("9/x.bmp", "9", None),
        ("cat/2.tiff", "cat", None),
        ("cat/tabby/old/1.webp", "cat", None),
        ("dog/a.png", "dog", None),
        ("dog/b.JPG", "dog", None),
    ]
    assert all(os.path.isabs(sample.path) for sample in found.samples)
    assert found.problems == ()


def test_a_relative_source_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(build(tmp_path, "pets/cat/1.jpg", "pets/dog/1.jpg"))
    assert scan("pets") == scan(tmp_path / "pets")


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_ready_splits(tmp_path: Path, val: str) -> None:
    build(
        tmp_path,
        "train/cat/1.jpg",
        "train/dog/2.jpg",
        f"{val}/dog/3.jpg",
        "test/cat/in/4.jpg",
        "train/5.jpg",
        "x/6.jpg",
    )
    found = scan(tmp_path)
    assert found.classes == ("cat", "dog")
    assert sorted(told(found), key=lambda sample: sample[0][-5]) == [
        ("train/cat/1.jpg", "cat", "train"),
        ("train/dog/2.jpg", "dog", "train"),
        (f"{val}/dog/3.jpg", "dog", "val"),
        ("test/cat/in/4.jpg", "cat", "test"),
    ]
    assert reasons(found) == {
        "train/5.jpg": "beside the class folders, in none of them",
        "x": "beside the ready splits, in none of them",
    }


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert scan(build(tmp_path, "train/1.jpg", "bus/1.jpg")).classes == ("bus", "train")


def test_ready_splits_need_every_class_in_train_and_one_folder_each(tmp_path: Path) -> None:
    build(tmp_path, "train/cat/1.jpg", "test/cat/2.jpg", "test/dog/3.jpg")
    with pytest.raises(BadFolder, match="expected pictures of every class to train on, found none of 'dog'"):
        scan(tmp_path)
    build(tmp_path, "val/cat/1.jpg", "valid/cat/1.jpg")
    with pytest.raises(BadFolder, match="expected one folder for val, found 'val' and 'valid'"):
        scan(tmp_path)


def test_what_is_no_sample_becomes_a_problem(tmp_path: Path) -> None:
    found = scan(build(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/notes.txt", "dog/noname", "3.jpg", "README.md"))
    assert len(found.samples) == 2
    assert reasons(found) == {
        "3.jpg": "beside the class folders, in none of them",
        "README.md": "not a picture by its name",
        "dog/noname": "not a picture by its name",
        "dog/notes.txt": "not a picture by its name",
    }


def test_row_31_a_loop_of_links_ends(tmp_path: Path) -> None:
    build(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    (tmp_path / "cat" / "me").symlink_to("me")
    plain, following = scan(tmp_path), scan(tmp_path, follow_links=True)
    assert told(plain) == told(following) == [("cat/1.jpg", "cat", None), ("dog/2.jpg", "dog", None)]
    assert reasons(plain)["cat/all"] == "a link to a folder, and links are not followed"
    assert reasons(following)["cat/all"] == "a link back to a folder above it"
    assert (
        reasons(plain)["cat/me"] == reasons(following)["cat/me"] == "cannot be read (Too many levels of symbolic links)"
    )


def test_row_31_two_folders_that_link_to_each_other(tmp_path: Path) -> None:
    build(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg", "far/3.jpg")
    (tmp_path / "pets" / "cat" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "pets" / "cat")
    found = scan(tmp_path / "pets", follow_links=True)
    assert [path for path, *_ in told(found)] == ["cat/1.jpg", "cat/far/3.jpg", "dog/2.jpg"]
    assert reasons(found) == {"cat/far/back": "a link back to a folder above it"}


def test_row_32_links_that_leave_the_folder(tmp_path: Path) -> None:
    pets = build(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg", "pets-more/3.jpg") / "pets"
    (pets / "cat" / "out.jpg").symlink_to(tmp_path / "pets-more" / "3.jpg")
    (pets / "cat" / "in.jpg").symlink_to("../dog/2.jpg")
    (pets / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (pets / "more").symlink_to(tmp_path / "pets-more")
    plain, following = scan(pets), scan(pets, follow_links=True)
    assert [path for path, *_ in told(plain)] == ["cat/1.jpg", "cat/in.jpg", "dog/2.jpg"]
    assert reasons(plain) == {
        "cat/gone.jpg": "a link to nothing",
        "cat/out.jpg": "a link that leads out of the folder, and links are not followed",
        "more": "a link to a folder, and links are not followed",
    }
    assert following.classes == ("cat", "dog", "more")
    assert len(following.samples) == 5
    assert reasons(following) == {"cat/gone.jpg": "a link to nothing"}


def test_a_source_that_is_a_link_itself(tmp_path: Path) -> None:
    build(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg")
    (tmp_path / "here").symlink_to("pets")
    assert told(scan(tmp_path / "here")) == told(scan(tmp_path / "pets"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat/1.jpg", "dog/"], "row 33: expected pictures of every class, found none of 'dog'"),
        (["cat/1.jpg", "dog/2.txt"], "row 33: expected pictures of every class, found none of 'dog'"),
        (["cat/1.jpg", "cat/2.jpg"], "row 34: expected at least two classes, found only 'cat'"),
        (["cat/1.jpg", "Cat/2.jpg"], "row 38: expected class names that differ in more than case"),
        (
            ["caf\u00e9/1.jpg", "cafe\u0301/2.jpg"],
            r"row 38: expected class names .* found 'cafe\\u0301' and 'caf\\xe9'",
        ),
        (["train/Cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg"], "row 38: expected class names that differ"),
        ([], "empty: expected a folder for each class, found an empty folder"),
        ([".git/1.jpg"], "empty: expected a folder for each class, found an empty folder"),
        (["1.jpg", "2.jpg"], "flat: expected a folder for each class, found 2 pictures and no folder"),
        (
            ["cat/1.txt", "dog/2.txt"],
            "bare: expected labelled pictures, found none .2 set aside; the first, .*1.txt: not a",
        ),
    ],
)
def test_folders_that_cannot_be_learnt_from(tmp_path: Path, names: list[str], said: str) -> None:
    row, said = said.split(":", 1)
    root = build(build(tmp_path, f"{row}/") / row, *names)
    with pytest.raises(BadFolder, match=f"{row}:{said}") as caught:
        scan(root)
    assert "\n" not in str(caught.value)


def test_row_35_a_class_of_one_picture_stays(tmp_path: Path) -> None:
    found = scan(build(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/3.jpg"))
    assert [name for _, name, _ in told(found)] == ["cat", "cat", "dog"]


def test_row_37_names_are_kept_byte_for_byte(tmp_path: Path) -> None:
    build(tmp_path, "dog/1.jpg", "cafe\u0301/new\nline.jpg")
    raw = os.fsencode(tmp_path) + b"/dog/caf\xe9.jpg"
    with open(raw, "wb"):
        pass
    found = scan(tmp_path)
    assert found.classes == ("cafe\u0301", "dog")
    assert [os.fsencode(sample.path) for sample in found.samples] == [
        os.fsencode(tmp_path) + b"/cafe\xcc\x81/new\nline.jpg",
        os.fsencode(tmp_path) + b"/dog/1.jpg",
        raw,
    ]


def test_row_39_unreadable_folder(tmp_path: Path) -> None:
    build(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/secret/3.jpg")
    (tmp_path / "dog" / "secret").chmod(0)
    if os.access(tmp_path / "dog" / "secret", os.R_OK):
        pytest.skip("this user may read every folder")
    assert reasons(scan(tmp_path)) == {"dog/secret": "cannot be listed (Permission denied)"}


def test_row_40_a_fifo_is_set_aside_unopened(tmp_path: Path) -> None:
    build(tmp_path, "cat/1.jpg", "dog/2.jpg")
    os.mkfifo(tmp_path / "dog" / "pipe.jpg")
    assert reasons(scan(tmp_path)) == {"dog/pipe.jpg": "not a regular file (a FIFO, socket or device)"}


def test_row_41b_hidden_and_system_names_do_not_exist(tmp_path: Path) -> None:
    build(
        tmp_path, "cat/1.jpg", "dog/2.jpg", ".DS_Store", ".ipynb_checkpoints/3.jpg", "dog/Thumbs.db", "dog/@eaDir/4.jpg"
    )
    build(tmp_path, "__MACOSX/cat/._1.jpg", "cat/._1.jpg", "cat/.ipynb_checkpoints/1-checkpoint.jpg", "desktop.ini")
    found = scan(tmp_path)
    assert told(found) == [("cat/1.jpg", "cat", None), ("dog/2.jpg", "dog", None)]
    assert found.problems == ()


def test_sources_that_are_no_folder(tmp_path: Path) -> None:
    build(tmp_path, "flowers/a/1.jpg", "one.jpg", "pets.zip")
    for name, said in [
        ("flovers", "found nothing there; did you mean 'flowers'"),
        ("one.jpg", "expected a folder, a zip or a CSV file, found something else"),
        ("pets.zip", "found a zip archive; unpack it first"),
    ]:
        with pytest.raises(BadFolder, match=said):
            scan(tmp_path / name)


def csv(root: Path, *lines: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    path = root / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (
            ["path,label,split", "a/1.jpg,cat,train", '"a/2,5.jpg",dog,valid', "b/3.jpg,dog,", "b/4.jpg,dog,train"],
            "utf-8",
        ),
        (
            ["Set;File;Class", "train;a/1.jpg;cat", "VAL;a/2,5.jpg;dog", ";b/3.jpg;dog", "train;b/4.jpg;dog"],
            "utf-8-sig",
        ),
    ],
)
def test_csv(tmp_path: Path, lines: list[str], encoding: str) -> None:
    build(tmp_path, "a/1.jpg", "a/2,5.jpg", "b/3.jpg", "b/4.jpg")
    listed = csv(tmp_path, *lines, encoding=encoding)
    found = scan(tmp_path, csv=listed)
    assert told(found) == [
        ("a/1.jpg", "cat", "train"),
        ("a/2,5.jpg", "dog", "val"),
        ("b/3.jpg", "dog", None),
        ("b/4.jpg", "dog", "train"),
    ]
    assert found.problems == ()
    assert scan(listed) == scan(tmp_path, csv=Path("labels.csv")) == found


def test_csv_rows_that_give_no_sample(tmp_path: Path) -> None:
    build(tmp_path, "data/1.jpg", "data/2.jpg", "data/3.jpg", "data/4.jpg", "secret.jpg", "data/folder.jpg/")
    rows = ["1.jpg,cat,", "2.jpg,dog,", "gone.jpg,cat,", "1.jpg,cat,", "./1.jpg,cat,", "3.jpg,cat,", "3.jpg,dog,"]
    rows += ["4.jpg,,", ",cat,", "4.jpg,cat,holdout", "4.jpg", "../secret.jpg,cat,", "folder.jpg,cat,", "3.jpg,cat,"]
    listed = csv(tmp_path / "data", "image,category,set", *rows)
    found = scan(tmp_path / "data", csv=listed)
    assert told(found) == [("1.jpg", "cat", None), ("2.jpg", "dog", None)]
    assert {(os.path.basename(problem.path), problem.reason) for problem in found.problems} == {
        ("labels.csv", "line 4: no file gone.jpg"),
        ("1.jpg", "line 5 repeats line 2; kept once"),
        ("1.jpg", "line 6 repeats line 2; kept once"),
        ("3.jpg", "lines 7 and 8 give it different labels or splits"),
        ("3.jpg", "line 15 repeats line 7; kept once"),
        ("labels.csv", "line 9: no label for 4.jpg"),
        ("labels.csv", "line 10: no path"),
        ("labels.csv", "line 11: split holdout is none of train, val and test"),
        ("labels.csv", "line 12: not as many cells as the header"),
        ("labels.csv", "line 13: ../secret.jpg leads out of the folder"),
        ("labels.csv", "line 14: folder.jpg is not a regular file"),
    }
    assert ("../secret.jpg", "cat", None) in told(scan(tmp_path / "data", csv=listed, follow_links=True))


def test_csv_links_that_leave_the_folder(tmp_path: Path) -> None:
    build(tmp_path, "data/1.jpg", "data/2.jpg", "far/3.jpg")
    (tmp_path / "data" / "far").symlink_to("../far")
    (tmp_path / "data" / "4.jpg").symlink_to("../far/3.jpg")
    listed = csv(tmp_path / "data", "path,label", "1.jpg,cat", "2.jpg,dog", "far/3.jpg,dog", "4.jpg,dog")
    assert [problem.reason for problem in scan(listed).problems] == [
        "line 4: far/3.jpg leads out of the folder",
        "line 5: 4.jpg leads out of the folder",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,kind\n1.jpg,cat\n", "expected a header with a path column .* found name, kind"),
        (b"", "expected a header with a path column .* found none"),
        (b'path,label\n"1.jpg,cat\n', "expected a CSV file, found a damaged one"),
        (b"path,label\n1.jpg,cat\n2.jpg,Cat\n", "expected class names that differ in more than case"),
        (
            b"path,label\n9.jpg,cat\n",
            "expected labelled pictures, found none .1 set aside; the first, .* line 2: no file",
        ),
    ],
)
def test_csv_files_that_cannot_be_read(tmp_path: Path, content: bytes, said: str) -> None:
    build(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(BadFolder, match=said):
        scan(tmp_path / "labels.csv")
    with pytest.raises(BadFolder, match="expected a CSV file, found no regular file"):
        scan(tmp_path, csv=tmp_path / "absent.csv")


def relative(paths: Iterable[str], root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in paths]


def test_picture_paths(tmp_path: Path) -> None:
    build(
        tmp_path, "b/2.jpg", "b/1.jpg", "b/deep/0.png", "b/a.txt", "b/.hidden.jpg", "b/@eaDir/9.jpg", "odd", "c[1].jpg"
    )
    assert relative(picture_paths([str(tmp_path / "odd"), str(tmp_path / "b")]), tmp_path) == [
        "odd",
        "b/1.jpg",
        "b/2.jpg",
        "b/deep/0.png",
    ]
    assert relative(picture_paths([str(tmp_path / "c[1].jpg")]), tmp_path) == ["c[1].jpg"]
    assert relative(picture_paths([str(tmp_path / "b" / "*.jpg")]), tmp_path) == ["b/1.jpg", "b/2.jpg"]
    assert relative(picture_paths([str(tmp_path / "[b]")]), tmp_path) == ["b/1.jpg", "b/2.jpg", "b/deep/0.png"]
    everything = relative(picture_paths([str(tmp_path / "b" / "**" / "*.*g")]), tmp_path)
    assert everything == ["b/1.jpg", "b/2.jpg", "b/deep/0.png"]


def test_picture_paths_refuses_what_matches_nothing(tmp_path: Path) -> None:
    build(tmp_path, "cats.jpg", "empty/")
    for name, said in [
        ("cat.jpg", "found nothing there; did you mean 'cats.jpg'"),
        ("*.png", "expected a picture, a folder or a pattern, found nothing there"),
        ("empty", "expected a folder with pictures, found none"),
    ]:
        with pytest.raises(BadFolder, match=said):
            list(picture_paths([str(tmp_path / name)]))


def test_picture_paths_is_lazy_and_ends_in_a_loop(tmp_path: Path) -> None:
    build(tmp_path, "a/1.jpg", "a/b/2.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    paths = picture_paths([str(tmp_path / "a"), str(tmp_path / "absent")])
    assert os.path.basename(next(paths)) == "1.jpg"
    assert os.path.basename(next(paths)) == "2.jpg"
    with pytest.raises(BadFolder):
        next(paths)


def test_a_real_folder(data_kit: Callable[[str], Path]) -> None:
    found = scan(data_kit("trashnet"))
    assert found.classes == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    listed = sum(len(files) for _, _, files in os.walk(found.root))
    assert len(found.samples) + len(found.problems) == listed
