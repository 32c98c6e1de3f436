"""The one decoder: what training, prediction, server and export accept as a picture, and what they get for it.

JPEG, PNG, WebP, GIF, BMP and TIFF, told apart by their first bytes. Whatever comes in, an RGB picture of 8 bits a
channel comes out, upright, or BadPicture. Of an animation or a file of many pages, the first picture counts. Embedded
colour profiles are ignored: no colour management, so a corrupt profile costs nothing. Grey of 16 bits is scaled from
its full range; floats and 32-bit integers are refused, as no file says which value is white.

Pillow's plugins are called directly: `Image.open` warns about large pictures before its caller can look at their size,
and Python's warnings cannot be silenced for one thread alone.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from graft.data import header
from graft.errors import BadPicture, shown

MAX_FILE_BYTES: Final = 256 * 2**20
MAX_PIXELS: Final = 2**28 // 3  # 89,478,485: 256 MiB of RGB, and what Pillow itself takes without a warning
MAX_SIDE: Final = 32_767
MAX_ASPECT: Final = 200  # longest side over shortest: resizing the shortest to 224 then stays under 10 megapixels
BACKGROUND: Final = (255, 255, 255)  # what shows through transparent pixels: white paper

FORMATS: Final = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")
SUFFIXES: Final = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

# What Pillow 13 raises for bad data, by its sources and by fuzzing; an AttributeError would be a bug of ours.
_BAD_DATA: Final = (
    OSError,  # and UnidentifiedImageError
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    image: RGB, 8 bits a channel, upright. width, height: pixels of the whole picture when upright; `image` is smaller
    where reduced decoding was asked for. format: "JPEG", "PNG", "WEBP", "GIF", "BMP" or "TIFF". mode: Pillow's name of
    the pixels as stored, such as "RGBA" or "I;16". notes: what the owner should know, a few words each.
    """

    image: Image.Image
    width: int
    height: int
    format: str
    mode: str
    notes: tuple[str, ...] = ()


def read_picture(path: str | Path) -> bytes:
    """The bytes of a picture file; nothing but a regular file is ever opened.

    Raises BadPicture for a folder, FIFO or device, for a file that is absent, unreadable, empty or over MAX_FILE_BYTES.
    """
    try:
        _refuse_irregular(os.stat(path), path)
        # Non-blocking, and looked at again once open: a FIFO may have taken the file's place since.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            _refuse_irregular(os.fstat(file.fileno()), path)
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadPicture(
            f"{shown(path)}: expected a readable picture file, found none ({shown(reason)}); "
            "check its path and permissions"
        ) from error
    if not data:
        raise BadPicture(f"{shown(path)}: expected a picture, found an empty file; copy it again or remove it")
    if len(data) > MAX_FILE_BYTES:
        raise BadPicture(_too_long(path))
    return data


def decode(data: bytes, *, name: str, shortest: int | None = None) -> Picture:
    """Bytes → an upright RGB picture.

    name: what errors call the picture; its suffix is compared with the content. shortest: the side in pixels the caller
    will resize to; a JPEG may then be decoded at 1/2, 1/4 or 1/8 as long as both sides keep twice that.
    Raises BadPicture for whatever is not one whole picture of FORMATS within MAX_PIXELS, MAX_SIDE and MAX_ASPECT.
    """
    picture_format = header.picture_format(data)
    if picture_format is None:
        raise BadPicture(
            f"{shown(name)}: expected a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture, found "
            f"{header.description(data)}; export it in one of these formats or remove it"
        )
    try:
        if canvas := header.early_canvas(data, picture_format):
            _refuse_size(canvas, name)
        image, orientation, notes = _opened(data, picture_format)
        _refuse_size(image.size, name)
        (width, height), mode = image.size, image.mode
        if shortest is not None and isinstance(image, JpegImageFile):
            image.draft(None, (2 * shortest, 2 * shortest))
        image.load()
        orientation = orientation or header.exif_orientation(image.info.get("exif", b""))
        rgb, colour_notes = _to_rgb(image, name)
    except _BAD_DATA as error:
        reason = str(error) or type(error).__name__
        raise BadPicture(
            f"{shown(name)}: expected a whole {picture_format} picture, found a damaged one ({shown(reason)}); "
            "export or copy it again, or remove it"
        ) from error
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    if orientation >= 5:
        width, height = height, width
    notes = (*_name_notes(name, picture_format), *notes, *colour_notes)
    return Picture(rgb, width, height, picture_format, mode, notes)


class _Jpeg(JpegImageFile):
    """Pillow looks for the resolution in the EXIF data, and warns where they are broken; pixels do not need it."""

    def _read_dpi_from_exif(self) -> None:
        return


def _opened(data: bytes, picture_format: str) -> tuple[ImageFile.ImageFile, int, tuple[str, ...]]:
    """A picture whose header is read, its orientation where that is known already (else 0), and notes."""
    if picture_format == "JPEG":
        return _Jpeg(BytesIO(data)), 0, ()
    if picture_format == "PNG":
        still, animated = header.png_without_animation(data)
        return PngImageFile(BytesIO(still)), 0, _first_of(animated, "frame")
    if picture_format == "TIFF":
        page, orientation, more = header.tiff_first_page(data)
        return TiffImageFile(BytesIO(page)), orientation, _first_of(more, "page")
    if picture_format == "WEBP":
        webp = WebPImageFile(BytesIO(data))
        return webp, 0, _first_of(webp.is_animated, "frame")
    if picture_format == "GIF":
        return GifImageFile(BytesIO(data)), 0, _first_of(header.gif_is_animated(data), "frame")
    return BmpImageFile(BytesIO(data)), 0, ()


def _first_of(many: bool, what: str) -> tuple[str, ...]:
    return (f"only the first {what} is used",) if many else ()


def _to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """A loaded picture of any mode → RGB, and notes on what that changed."""
    if image.mode.startswith("I;16"):
        return _grey16_to_rgb(image), ("16-bit grey scaled from 0–65535 to 0–255",)
    if image.mode in ("I", "F"):
        raise BadPicture(
            f"{shown(name)}: expected 8 or 16 bits a channel, found "
            f"{'32-bit integers' if image.mode == 'I' else 'floating-point numbers'} without a stated white; "
            "scale it to 8 or 16 bits and export it again"
        )
    if image.mode == "LAB":
        return _lab_to_rgb(image), ()
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return rgba.convert("RGB"), ()
        canvas = Image.new("RGB", rgba.size, BACKGROUND)
        canvas.paste(rgba, mask=alpha)
        return canvas, ("transparency shown on white",)
    return (image.copy() if image.mode == "RGB" else image.convert("RGB")), ()


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """Linear from 0–65535 to 0–255, rounded; Pillow's own conversion clips at 255 instead."""
    grey = np.asarray(image).astype(np.uint32)  # (H, W), in the machine's byte order
    eight = ((grey + 128) // 257).astype(np.uint8)
    if (key := image.info.get("transparency")) is not None:  # a PNG's one transparent grey
        eight[grey == key] = BACKGROUND[0]
    return Image.fromarray(eight).convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* (D50, as ICC defines it) → sRGB, by Little CMS; its own shortcut is up to 22 levels off."""
    from PIL import ImageCms  # a second shared library, for one rare kind of TIFF

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    exact = ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)
    converted = ImageCms.applyTransform(image, exact)
    assert converted is not None  # None only when it works in place
    return converted


def _refuse_irregular(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a FIFO, socket or device"
        raise BadPicture(f"{shown(path)}: expected a picture file, found {found}; name a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise BadPicture(_too_long(path))


def _too_long(path: str | Path) -> str:
    return (
        f"{shown(path)}: expected at most {MAX_FILE_BYTES // 2**20} MiB, found a longer file; export a smaller version"
    )


def _refuse_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < 1:
        limit = "at least 1×1 pixel"
    elif width * height > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS:,} pixels"
    elif max(size) > MAX_SIDE:
        limit = f"sides of at most {MAX_SIDE:,} pixels"
    elif max(size) > MAX_ASPECT * min(size):
        limit = f"a longest side of at most {MAX_ASPECT} times the shortest"
    else:
        return
    raise BadPicture(f"{shown(name)}: expected {limit}, found {width}×{height}; resize, crop or remove it")


def _name_notes(name: str, picture_format: str) -> tuple[str, ...]:
    suffix = os.path.splitext(name)[1]
    if SUFFIXES.get(suffix.lower(), picture_format) == picture_format:
        return ()
    return (f"named {suffix} but holds {picture_format}",)
