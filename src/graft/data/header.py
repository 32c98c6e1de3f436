"""What a picture file says about itself before a pixel is decoded: format, canvas, orientation.

Pillow warns about broken metadata, and a warning cannot be silenced for one thread alone. So whatever is not needed for
pixels is read here or left out, and Pillow sees only the rest.
Sources: PNG 3rd ed. §5 and §13.2; GIF89a §18–20; TIFF 6.0 §2; BigTIFF; EXIF 2.32 §4.6; WebP container (RFC 9649).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from PIL import TiffTags

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_FOREIGN: Final = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"8BPS", "a Photoshop (PSD) file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"PK\3\4", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x0a", "a JPEG XL file"),
)
_BRANDS: Final = {b"avif": "an AVIF picture", b"heic": "a HEIC picture", b"heix": "a HEIC picture"}
_APNG_CHUNKS: Final = (b"acTL", b"fcTL", b"fdAT")

# The tags that the pixels of a TIFF page need (TIFF 6.0 §3–8, 10–15, 18–23; technical note 2): no metadata.
_PAGE_TAGS: Final = frozenset(
    (*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 332, 338, 339, 347)
) | frozenset((*range(512, 522), *range(529, 533)))
_SAMPLES_PER_PIXEL: Final = 277
_MOST_SAMPLES: Final = 6  # CMYK and two extra; Pillow reads no more
_ORIENTATION: Final = 274
_STRINGS: Final = (1, 2, 7)  # BYTE, ASCII and UNDEFINED: many bytes make one value
_TYPE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def picture_format(data: bytes) -> str | None:
    """The format that the first bytes announce, one of those graft decodes, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def description(data: bytes) -> str:
    """What bytes that are no picture seem to be, in words that complete "found …"."""
    if not data:
        return "an empty file"
    for signature, words in _FOREIGN:
        if data.startswith(signature):
            return words
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a video or a HEIF picture")
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if b"<svg" in head:
        return "an SVG drawing"
    if all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in data[:512]):
        return "text"
    return f"bytes that begin with {data[:4].hex(' ')}"


def early_canvas(data: bytes, picture_format: str) -> tuple[int, int] | None:
    """(width, height) in pixels where Pillow takes memory or warns as soon as it opens a file: WebP and GIF.

    None for the other formats, whose size Pillow tells before it allocates anything.
    Raises struct.error or IndexError when the header is cut.
    """
    if picture_format == "GIF":
        return _gif_canvas(data)
    return _webp_canvas(data) if picture_format == "WEBP" else None


def gif_is_animated(data: bytes) -> bool:
    """Whether an image follows the first one. Raises IndexError when the header is cut."""
    first = _gif_image(data, 13 + _colour_table_bytes(data[10]))
    if first is None:
        return False
    codes = first + 10 + _colour_table_bytes(data[first + 9]) + 1  # after the descriptor, its colours, the code size
    return _gif_image(data, _past_blocks(data, codes)) is not None


def png_without_animation(data: bytes) -> tuple[bytes, bool]:
    """A PNG reduced to its default image, and whether it was animated.

    Raises ValueError when a chunk is cut or a chunk that pixels need fails its CRC, of which Pillow checks only some.
    """
    kept, at, kind = [data[:8]], 8, b""
    while at < len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        if len(chunk) < 12 + length:
            raise ValueError(f"chunk {kind!r} at byte {at} is cut")
        is_critical = not kind[0] & 0x20  # an upper-case first letter, PNG §5.4
        if is_critical and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError(f"chunk {kind!r} at byte {at} fails its checksum (CRC)")
        kept.append(b"" if kind in _APNG_CHUNKS else chunk)
        at += len(chunk)
    animated = b"" in kept
    return (b"".join(kept) if animated else data), animated


def tiff_first_page(data: bytes) -> tuple[bytes, int, bool]:
    """A TIFF reduced to its first page and the tags its pixels need.

    Returns the file, the page's orientation 1–8, and whether more pages followed.
    Raises ValueError when a tag's values lie outside the file or number other than the specification says, and
    struct.error when the directory itself is cut.
    """
    directory = _directory(data)
    kept: dict[int, _Entry] = {}
    held = 0
    for entry in directory.entries(data):
        size = entry.values * _TYPE_BYTES.get(entry.type, 0)
        if entry.tag not in _PAGE_TAGS or entry.tag in kept or size == 0:
            continue
        held += size
        if entry.at + size > len(data):
            raise ValueError(f"tag {entry.tag} points outside the file")
        if held > len(data):
            raise ValueError("its tags hold more than the file, so they overlap")
        if entry.type not in _STRINGS and entry.values != 1 and TiffTags.lookup(entry.tag).length == 1:
            raise ValueError(f"tag {entry.tag} has {entry.values} values, expected 1")
        if entry.tag == _SAMPLES_PER_PIXEL and not 1 <= (found := _number(data, directory, entry)) <= _MOST_SAMPLES:
            raise ValueError(f"{found} samples per pixel, expected 1 to {_MOST_SAMPLES}")
        kept[entry.tag] = entry
    page = bytearray(data)
    struct.pack_into(directory.count_format, page, directory.at, len(kept))
    at = directory.first
    for entry in kept.values():
        page[at : at + directory.entry_bytes] = entry.raw
        at += directory.entry_bytes
    struct.pack_into(directory.offset_format, page, at, 0)  # no page follows
    return bytes(page), _orientation(data, directory), directory.next(data) != 0


def exif_orientation(exif: bytes) -> int:
    """EXIF bytes → orientation 1–8; 1 ("as stored") where they are absent, broken, or hold any other number."""
    tiff = exif.removeprefix(b"Exif\0\0")
    if picture_format(tiff) != "TIFF":
        return 1
    try:
        return _orientation(tiff, _directory(tiff))
    except struct.error:  # cut: metadata, which never costs a picture
        return 1


class _Entry(NamedTuple):
    tag: int
    type: int
    values: int  # how many
    at: int  # where its values lie, bytes from the start
    raw: bytes


class _Directory(NamedTuple):
    """Where a TIFF's first image file directory lies, and the `struct` formats of its parts."""

    at: int
    length: int  # entries
    order: str
    count_format: str
    entry_format: str
    offset_format: str

    @property
    def first(self) -> int:
        return self.at + struct.calcsize(self.count_format)

    @property
    def entry_bytes(self) -> int:
        return struct.calcsize(self.entry_format)

    def entries(self, data: bytes) -> Iterator[_Entry]:
        room = struct.calcsize(self.offset_format)
        for at in range(self.first, self.first + self.length * self.entry_bytes, self.entry_bytes):
            tag, kind, count, value = struct.unpack_from(self.entry_format, data, at)
            inline = count * _TYPE_BYTES.get(kind, 0) <= room
            yield _Entry(
                tag, kind, count, at + self.entry_bytes - room if inline else value, data[at : at + self.entry_bytes]
            )

    def next(self, data: bytes) -> int:
        (offset,) = struct.unpack_from(self.offset_format, data, self.first + self.length * self.entry_bytes)
        return int(offset)


def _directory(tiff: bytes) -> _Directory:
    order = "<" if tiff[:2] == b"II" else ">"
    big = tiff[2:4] in (b"+\0", b"\0+")
    count_format, entry_format, offset_format = (
        (order + "Q", order + "HHQQ", order + "Q") if big else (order + "H", order + "HHII", order + "I")
    )
    (at,) = struct.unpack_from(offset_format, tiff, 8 if big else 4)
    if at > len(tiff):
        raise struct.error(f"the directory lies at byte {at}, past the end of the file")
    (count,) = struct.unpack_from(count_format, tiff, at)
    return _Directory(at, count, order, count_format, entry_format, offset_format)


def _number(tiff: bytes, directory: _Directory, entry: _Entry) -> int:
    """The value of a SHORT or LONG entry of one value; 0 for any other type or count."""
    kind = {3: "H", 4: "I"}.get(entry.type)
    if kind is None or entry.values != 1:
        return 0
    return int(struct.unpack_from(directory.order + kind, tiff, entry.at)[0])


def _orientation(tiff: bytes, directory: _Directory) -> int:
    for entry in directory.entries(tiff):
        if entry.tag == _ORIENTATION:
            found = _number(tiff, directory, entry)
            return found if 1 <= found <= 8 else 1
    return 1


def _gif_canvas(data: bytes) -> tuple[int, int]:
    """The logical screen, widened to the first frame, as Pillow widens it."""
    width, height = struct.unpack_from("<HH", data, 6)
    if first := _gif_image(data, 13 + _colour_table_bytes(data[10])):
        left, top, frame_width, frame_height = struct.unpack_from("<4H", data, first + 1)
        width, height = max(width, left + frame_width), max(height, top + frame_height)
    return width, height


def _gif_image(data: bytes, at: int) -> int | None:
    """Where the next image descriptor lies, from a place between blocks; None at the end."""
    while at < len(data) and data[at] not in b",;":
        at = _past_blocks(data, at + 2) if data[at] == 0x21 else at + 1  # 0x21: an extension, then its label
    return at if data[at : at + 1] == b"," else None


def _past_blocks(data: bytes, at: int) -> int:
    """Past a row of data blocks, each led by its length, up to and with the empty one; past the end where it lacks."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp_canvas(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":  # 24-bit width - 1 and height - 1
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":  # a signature byte, then 14 bits each of width - 1 and height - 1
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)  # "VP8 ": after the frame tag and the start code
    return width & 0x3FFF, height & 0x3FFF
