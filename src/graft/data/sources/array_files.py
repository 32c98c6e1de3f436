"""Reading arrays out of `.npz` and IDX files that anybody may have made, hostile or damaged.

What a file declares is judged before memory is taken for it: kind of values, shape, bytes against what the file can
hold. Nothing is ever unpickled.
Sources: numpy's format description (NEP 1); LeCun, Cortes, Burges, "The MNIST database", §file formats (IDX).
"""

from __future__ import annotations

import gzip
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from graft.data.sources.archive import Quota, refuse_many_entries
from graft.errors import BadFolder, nearest, shown

MAX_BYTES: Final = 8 * 2**30  # of all arrays of a file together: they are held in memory

_IDX_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_ENCRYPTED: Final = 0x1
_DAMAGED: Final = (
    zipfile.BadZipFile,
    NotImplementedError,  # a compression method that Python lacks
    EOFError,
    ValueError,
    OverflowError,
    SyntaxError,  # numpy parses an array's header as Python literals, and so on for the next three
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
    LZMAError,
    gzip.BadGzipFile,
)


def read_npz(path: Path, wanted: Collection[str], *, max_bytes: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` file that are wanted, by name; every other one stays unread.

    Raises BadFolder when none of them is there, and for what is damaged, pickled, encrypted or too large.
    """
    try:
        refuse_many_entries(path, Quota(entries=10_000))
        with zipfile.ZipFile(path) as opened:
            infos = {info.filename.removesuffix(".npy"): info for info in opened.infolist()}
            here = [name for name in wanted if name in infos]
            if not here:
                raise BadFolder(_none_wanted(path, wanted, list(infos)))
            _refuse_size(path, sum(infos[name].file_size for name in here), path.stat().st_size, max_bytes)
            return {name: _read_member(path, opened, infos[name], name) for name in here}
    except _DAMAGED as error:
        raise BadFolder(
            f"{shown(path)}: expected a sound .npz file, found a damaged one ({shown(error)}); save it again"
        ) from error
    except OSError as error:
        raise BadFolder(_unreadable(path, error)) from error


def read_idx(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """The one array of an IDX file, gzipped if its name ends in `.gz`; values in the machine's own byte order.

    Raises BadFolder for what is no such file, for one that is shorter or longer than it declares, or too large.
    """
    try:
        size, packed = path.stat().st_size, path.suffix.lower() == ".gz"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            dtype, shape = _idx_header(path, file)
            declared = math.prod(shape) * dtype.itemsize
            _refuse_size(path, declared, size if packed else max(size, declared), max_bytes)
            data = file.read(declared + 1)
    except _DAMAGED as error:
        raise BadFolder(
            f"{shown(path)}: expected a sound IDX file, found a damaged one ({shown(error)}); fetch it again"
        ) from error
    except OSError as error:
        raise BadFolder(_unreadable(path, error)) from error
    if len(data) != declared:
        found = "more" if len(data) > declared else f"{len(data):,}"
        raise BadFolder(
            f"{shown(path)}: expected the {declared:,} bytes of values that it declares, found {found}; fetch it again"
        )
    values = np.frombuffer(data, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read_member(path: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    """One array, after its header has been held against the bytes that the archive declares for it."""
    if info.flag_bits & _ENCRYPTED:
        raise BadFolder(f"{shown(path)}: expected open arrays, found {name} encrypted; save it without a password")
    with opened.open(info) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is of npy version {version[0]}.{version[1]}")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        held = info.file_size - stream.tell()
    if dtype.hasobject:
        raise BadFolder(
            f"{shown(path)}: expected plain values, found pickled objects in {name}, which could run code; "
            "save it with a plain dtype such as uint8 (names: a str array)"
        )
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != held:
        raise BadFolder(
            f"{shown(path)}: expected {held:,} bytes of values in {name}, found a header that declares {declared:,} "
            f"({shape_and_kind(shape, dtype)}); save it again"
        )
    with opened.open(info) as stream:
        values: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        return values


def _idx_header(path: Path, file: IO[bytes] | gzip.GzipFile) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Kind of values and shape: two zero bytes, a code for the kind, the number of axes, a big-endian size for each."""
    zeros, code, axes = struct.unpack(">HBB", file.read(4))
    if zeros or code not in _IDX_TYPES or not 1 <= axes <= 4:
        raise BadFolder(
            f"{shown(path)}: expected an IDX file, which begins with 00 00, a known kind and 1 to 4 axes, found "
            f"{zeros:04x} {code:02x} {axes:02x}; fetch it again"
        )
    return np.dtype(_IDX_TYPES[code]), struct.unpack(f">{axes}I", file.read(4 * axes))


def _refuse_size(path: Path, declared: int, size: int, max_bytes: int) -> None:
    """declared: bytes of values. size: of the file on the disk. Raises BadFolder for too much, or a bomb."""
    quota = Quota()
    if declared > max_bytes:
        raise BadFolder(
            f"{shown(path)}: expected arrays of at most {max_bytes:,} bytes, found {declared:,} declared; "
            "save them as a folder of pictures"
        )
    if declared > quota.ratio_from and declared > quota.ratio * size:
        raise BadFolder(
            f"{shown(path)}: expected at most {quota.ratio:g} times its own size inside, found {declared:,} bytes; "
            "such a file is a decompression bomb: do not open it"
        )


def shape_and_kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """As errors print it: `(60000, 28, 28) uint8`."""
    return f"{shape} {dtype}"


def _none_wanted(path: Path, wanted: Collection[str], found: list[str]) -> str:
    listed = ", ".join(shown(name) for name in found[:10]) or "nothing"
    near = next((tail for name in found if (tail := nearest(name.lower(), wanted))), "")
    return (
        f"{shown(path)}: expected arrays named x_train and y_train, or train_images and train_labels (and so for "
        f"val and test), found {listed}{near}; save them under those names"
    )


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"{shown(path)}: expected a readable file, found none ({error.strerror or error}); check path and permissions"
    )
