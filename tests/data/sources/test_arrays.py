"""Pictures that come as arrays: what is read, what is refused and how, and that unpacking loses nothing."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graft.data.sources.array_files import read_idx, read_npz
from graft.data.sources.arrays import is_arrays, read_arrays, unpack_arrays
from graft.data.sources.scan import scan
from graft.errors import BadFolder

X = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
Y = np.array([0, 1, 2, 0, 1, 2])


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def idx(values: NDArray[Any], code: int = 0x08) -> bytes:
    """An IDX file's bytes, by the format's description: 0, 0, kind, axes, sizes, values, all big-endian."""
    return struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape) + values.tobytes()


def idx_folder(folder: Path, *, packed: bool = False) -> Path:
    folder.mkdir()
    end, pack = (".gz", gzip.compress) if packed else ("", bytes)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(X)))
        (folder / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(Y.astype(np.uint8))))
    return folder


def test_keras_names(tmp_path: Path) -> None:
    found = read_arrays(npz(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2], other=np.zeros(9)))
    assert [part.split for part in found.parts] == ["train", "test"]
    assert [part.labels.tolist() for part in found.parts] == [[0, 1, 2, 0, 1, 2], [0, 1]]
    assert found.classes == ("0", "1", "2")
    np.testing.assert_array_equal(found.parts[0].pixels, X)
    assert found.parts[0].labels.dtype == np.int64


def test_medmnist_names_columns_of_labels_and_colour(tmp_path: Path) -> None:
    colour = np.stack([X, X + 1, X + 2], axis=-1)
    arrays = {f"{s}_images": colour for s in ("train", "val", "test")}
    labels = {f"{s}_labels": Y[:, None].astype(np.uint8) for s in ("train", "val", "test")}
    found = read_arrays(npz(tmp_path / "a.npz", **arrays, **labels))
    assert [part.split for part in found.parts] == ["train", "val", "test"]
    assert found.parts[1].pixels.shape == (6, 4, 5, 3)
    assert found.parts[2].labels.tolist() == Y.tolist()


def test_one_part_is_no_split(tmp_path: Path) -> None:
    (only,) = read_arrays(npz(tmp_path / "a.npz", x_test=X, y_test=Y)).parts
    assert only.split is None


def test_numbers_that_do_not_count_from_zero_keep_their_names(tmp_path: Path) -> None:
    found = read_arrays(npz(tmp_path / "a.npz", x_train=X, y_train=np.array([3, 12, 3, 12, 7, 3], np.int16)))
    assert found.classes == ("03", "07", "12")
    assert found.parts[0].labels.tolist() == [0, 2, 0, 2, 1, 0]


def test_named_classes_stand_in_the_labels_order(tmp_path: Path) -> None:
    names = np.array(["shirt", "bag", "ankle boot"])
    path = npz(tmp_path / "a.npz", x_train=X, y_train=Y, classes=names)
    assert read_arrays(path).classes == ("shirt", "bag", "ankle boot")
    found = scan(unpack_arrays(path, tmp_path / "cache"))
    assert found.classes == ("ankle boot", "bag", "shirt")
    assert [found.classes[sample.label] for sample in found.samples] == ["ankle boot"] * 2 + ["bag"] * 2 + ["shirt"] * 2


def test_floats_are_scaled_by_255_and_rounded(tmp_path: Path) -> None:
    values = np.array([0.0, 0.25, 0.5, 1.0, 1 / 255, 254.4 / 255]).reshape(6, 1, 1)
    found = read_arrays(npz(tmp_path / "a.npz", x_train=values, y_train=Y))
    assert found.parts[0].pixels.ravel().tolist() == [0, 64, 128, 255, 1, 254]


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    found = read_arrays(idx_folder(tmp_path / "mnist", packed=packed))
    assert [part.split for part in found.parts] == ["train", "test"]
    np.testing.assert_array_equal(found.parts[1].pixels, X)
    assert found.parts[1].labels.tolist() == Y.tolist()


def test_idx_by_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(bytes.fromhex("0000080100000003 07 00 ff"))
    assert read_idx(path).tolist() == [7, 0, 255]
    path.write_bytes(bytes.fromhex("00000b0200000001 00000002 0102 fffe"))
    assert read_idx(path).tolist() == [[258, -2]]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": X}, r"expected x_train with y_train, found x_train alone; add y_train"),
        ({"images": X}, r"expected arrays named x_train .* found images"),
        ({"x_trian": X, "y_train": Y}, r"found y_train alone; add x_train"),
        ({"X_train": X}, r"found X_train; did you mean 'x_train'"),
        ({"classes": np.array(["a"])}, r"found only classes"),
        ({"x_train": X.astype(np.int64), "y_train": Y}, r"expected uint8 0–255.*found \(6, 4, 5\) int64"),
        ({"x_train": X * 2.0, "y_train": Y}, r"floats in 0–1 in x_train, found float64 from 0 to 238"),
        ({"x_train": np.full((6, 2, 2), np.nan), "y_train": Y}, r"floats in 0–1 in x_train, found float64 from nan"),
        ({"x_train": X % 2, "y_train": Y}, r"found uint8 0–1, which looks black"),
        ({"x_train": X.reshape(6, 20), "y_train": Y}, r"pictures \(N, H, W\) .* found \(6, 20\) uint8; reshape"),
        ({"x_train": np.zeros((6, 3, 4, 5), np.uint8), "y_train": Y}, r"\(6, 3, 4, 5\) uint8; put the channels last"),
        ({"x_train": X[:0], "y_train": Y[:0]}, r"found \(0, 4, 5\) uint8"),
        ({"x_train": X, "y_train": Y[:5]}, r"expected 6 integers.*found \(5,\) int64"),
        ({"x_train": X, "y_train": np.eye(6)}, r"expected 6 integers.*found \(6, 6\) float64"),
        ({"x_train": X, "y_train": Y - 1}, r"class numbers from 0 in y_train, found -1"),
        ({"x_train": X, "y_train": Y.astype(np.uint64) + 2**63}, r"class numbers from 0 in y_train, found 9223"),
        ({"x_train": X, "y_train": Y, "classes": np.array(["a", "b"])}, r"labels 0 to 1, for 2 classes, found 2"),
        ({"x_train": X, "y_train": Y, "classes": np.array(["a", "b", "A"])}, r"every class once, found 'A' again"),
        ({"x_train": X, "y_train": Y, "classes": np.array(["a", "..", "b"])}, r"can name a folder, found '\.\.'"),
        ({"x_train": X, "y_train": Y, "classes": np.array(["a", "T-shirt/top", "b"])}, r"found 'T-shirt/top'"),
        ({"x_train": X, "y_train": Y, "classes": np.array([1, 2, 3])}, r"a list of names in classes, found \(3,\)"),
        ({"x_val": X, "y_val": Y, "x_test": X, "y_test": Y}, r"expected a part to train on, found val and test only"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y},
            r"one shape, found \(4, 5\) in x_train and \(3, 5\) in x_test",
        ),
        (
            {"x_train": X, "y_train": Y, "train_images": X, "train_labels": Y},
            r"names as x_train or as train_images, found both",
        ),
        ({"x_train": X, "y_train": Y.astype(object)}, r"expected plain values, found pickled objects in y_train"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused_in_one_line(tmp_path: Path, arrays: Any, said: str) -> None:
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadFolder, match=said) as caught:
        unpack_arrays(path, tmp_path / "cache")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["a.npz"]


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("member", ["x_train.npy", "x_train"])
def test_no_pickle_is_ever_loaded(tmp_path: Path, member: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, pickle.dumps(Trap(tmp_path / "ran")))
        archive.writestr("y_train.npy", b"")
    with pytest.raises(BadFolder, match=r"expected a sound \.npz file, found a damaged one"):
        read_arrays(path)
    assert not (tmp_path / "ran").exists()


def forged(path: Path, shape: str, *, values: bytes = b"", compress: int = zipfile.ZIP_STORED) -> Path:
    """A `.npz` file whose x_train declares a shape of its own."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("x_train.npy", npy)
        labels = io.BytesIO()
        np.save(labels, Y)
        archive.writestr("y_train.npy", labels.getvalue())
    return path


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000, 1000)", "(-2, -3, 20)", "(6, 4, 6)", "(2, 4, 5)", "(99999999999999999999,)"]
)
def test_shapes_that_the_file_cannot_hold_are_refused_before_memory_is_taken(tmp_path: Path, shape: str) -> None:
    path = forged(tmp_path / "a.npz", shape, values=X.tobytes())
    tracemalloc.start()
    try:
        with pytest.raises(BadFolder, match=r"expected 120 bytes of values in x_train, found a header that declares"):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "shape",
    ["(6, 4, [5])", "__import__('os').mkdir('ran')", "(" * 3000, "-" * 9000 + "1", "[" * 150 + "]" * 150, "1" * 9000],
)
def test_headers_that_are_no_plain_literals_are_refused(
    tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFolder, match="found a damaged one"):
        read_arrays(forged(tmp_path / "a.npz", shape, values=X.tobytes()))
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    bomb = forged(tmp_path / "a.npz", "(300, 1000, 1000)", values=bytes(300_000_000), compress=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(BadFolder, match=r"at most 100 times its own size inside, found 300,000,"):
            read_arrays(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_more_than_memory_should_hold_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x_train=X, y_train=Y)
    with pytest.raises(BadFolder, match=r"arrays of at most 200 bytes, found 424 declared"):  # headers: 128 bytes each
        read_npz(path, ["x_train", "y_train"], max_bytes=200)


def test_every_flipped_byte_gives_arrays_or_a_refusal(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x_train=X, y_train=Y)
    sound, refused = path.read_bytes(), 0
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x5A]) + sound[at + 1 :])
        try:
            read_arrays(path)
        except BadFolder:
            refused += 1
    assert 300 < refused < len(sound)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found a damaged one"),
        (b"<html>", "expected an IDX file"),
        (idx(X)[:-1], "expected the 120 bytes of values that it declares, found 119"),
        (idx(X) + b"!", "expected the 120 bytes of values that it declares, found more"),
        (struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "expected arrays of at most"),
        (struct.pack(">HBBIII", 0, 8, 3, 1000, 1000, 1000), "expected the 1,000,000,000 bytes .* found 0"),
        (struct.pack(">HBBIIIIII", 0, 8, 6, 1, 1, 1, 1, 1, 1), "expected an IDX file"),
        (idx(X, code=0x0A), "expected an IDX file"),
    ],
)
def test_idx_files_that_do_not_hold_what_they_declare(tmp_path: Path, content: bytes, said: str) -> None:
    folder = idx_folder(tmp_path / "mnist")
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(BadFolder, match=said) as caught:
        read_arrays(folder)
    assert "\n" not in str(caught.value)


def test_a_gzip_bomb_is_refused_unread(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "mnist", packed=True)
    bomb = struct.pack(">HBBIII", 0, 8, 3, 300, 1000, 1000) + bytes(1_000_000)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(BadFolder, match="at most 100 times its own size inside, found 300,000,000"):
        read_arrays(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(X))[:-9])
    with pytest.raises(BadFolder, match="found a damaged one"):
        read_arrays(folder)


def test_idx_files_that_do_not_pair(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "mnist")
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(X)))
    with pytest.raises(BadFolder, match="one file of test images, found t10k-images-idx3-ubyte and t10k-images"):
        read_arrays(folder)
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(BadFolder, match="images with labels, found t10k-labels-idx1-ubyte alone"):
        read_arrays(folder)


def test_what_looks_like_arrays(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert not is_arrays(tmp_path)
    assert not is_arrays(tmp_path / "absent.npz")
    assert is_arrays(npz(tmp_path / "A.NPZ.npz", x=X))
    assert is_arrays(idx_folder(tmp_path / "mnist"))


def test_unpacking_keeps_every_pixel_and_split_and_happens_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 7, 9, 3), dtype=np.uint8)
    y = rng.integers(0, 2, 40)
    path = npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[::-1], y_test=y[::-1])
    seen: list[tuple[str, int, int]] = []
    folder = unpack_arrays(path, tmp_path / "cache", progress=lambda *said: seen.append(said))
    assert (seen[0], seen[-1]) == (("unpacking pictures", 0, 80), ("unpacking pictures", 80, 80))
    found = scan(folder)
    assert found.problems == ()
    assert len(found.samples) == 80
    for sample in found.samples:
        number = int(Path(sample.path).stem)
        at = number if sample.split == "train" else 39 - number
        with Image.open(sample.path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), x[at])
        assert sample.label == y[at]
    assert os.listdir(tmp_path / "cache" / "arrays") == [folder.name]
    again = unpack_arrays(path, tmp_path / "cache", progress=lambda *_: pytest.fail("it was unpacked again"))
    assert again == folder
    other = npz(tmp_path / "b.npz", x_train=x + 1, y_train=y)
    assert unpack_arrays(other, tmp_path / "cache") != folder


def test_one_part_unpacks_into_plain_class_folders(tmp_path: Path) -> None:
    found = scan(unpack_arrays(idx_folder_of_test_digits(tmp_path / "mnist"), tmp_path / "cache"))
    assert {sample.split for sample in found.samples} == {None}
    assert found.classes == ("0", "1", "2")


def idx_folder_of_test_digits(folder: Path) -> Path:
    for path in idx_folder(folder).glob("train-*"):
        path.unlink()
    return folder


def test_a_run_stopped_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    def stop(_what: str, done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    path = npz(tmp_path / "a.npz", x_train=X, y_train=Y)
    with pytest.raises(KeyboardInterrupt):
        unpack_arrays(path, tmp_path / "cache", progress=stop)
    assert os.listdir(tmp_path / "cache" / "arrays") == []


def test_real_sets(data_kit: Callable[[str], Path]) -> None:
    """Sizes as their papers give them; MNIST's first test digits are 7, 2, 1, 0, 4."""
    digits = read_arrays(data_kit("mnist-10k")).parts[0]
    assert (digits.split, digits.pixels.shape) == (None, (10_000, 28, 28))
    assert digits.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(digits.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    x_rays = read_arrays(data_kit("pneumonia/pneumoniamnist.npz"))
    assert [(part.split, len(part.labels)) for part in x_rays.parts] == [("train", 3882), ("val", 524), ("test", 624)]
