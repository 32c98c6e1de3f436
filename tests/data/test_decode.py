"""The decoder against every kind of file that is or is not a picture; rows are those of the list of bad inputs."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.data import decode as decoding
from graft.data.decode import MAX_PIXELS, Picture, decode, read_picture
from graft.errors import BadPicture


def encoded(image: Image.Image, picture_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, picture_format, **options)
    return file.getvalue()


def scene(width: int = 40, height: int = 30) -> Image.Image:
    """A smooth picture whose four corners differ: red grows to the right, green downwards."""
    red = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    green = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 60)], -1).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *between: bytes, pixels: bytes = b"", colour: int = 2, bits: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    )


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(
    *tags: tuple[int, int, int, int], pixels: bytes = b"\1\2", replaced: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> bytes:
    """A big-endian grey TIFF, two pixels wide; a tag is its number, its type (1, 3 or 4), how many values, a value."""
    common = ((256, 3, 1, 2), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (279, 4, 1, len(pixels)))
    by_number = {tag[0]: tag for tag in (*common, *tags)}
    if replaced[0]:
        by_number[replaced[0]] = replaced
    entries = b"".join(
        struct.pack(">HHI", *tag[:3])
        + (struct.pack(">HH", tag[3], 0) if tag[1:3] == (3, 1) else struct.pack(">I", tag[3]))
        for tag in sorted(by_number.values())
    )
    body = pixels.ljust(4, b"\0")
    return b"MM\0*" + struct.pack(">I", 8 + len(body)) + body + struct.pack(">H", len(by_number)) + entries + bytes(4)


def exif(orientation: int) -> bytes:
    """The smallest EXIF block that holds an orientation."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIIi", 8, 1, 0x0112, 3, 1, orientation, 0)


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(picture.image)


JPEG, PNG = encoded(scene(), "JPEG", quality=95), encoded(scene(), "PNG")


def bomb(width: int, height: int) -> bytes:
    """A sound PNG of zeros, of which a megabyte takes a kilobyte."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


REFUSED: dict[str, tuple[bytes, str]] = {
    "row 1 zero bytes": (b"", "found an empty file"),
    "row 2 one byte": (b"\xff", "found bytes that begin with ff"),
    "row 3 text": (b"these are not pixels\n", "found text"),
    "row 3 html": (b"<!DOCTYPE html><html>404</html>", "found an HTML page"),
    "row 4 svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "found an SVG drawing"),
    "row 4 eps": (encoded(scene(), "EPS"), "found a PostScript file"),
    "row 4 pdf": (encoded(scene(), "PDF"), "found a PDF document"),
    "row 4 ico": (encoded(scene(), "ICO"), "found an icon (ICO)"),
    "row 4 fits": (b"SIMPLE  =                    T".ljust(2880), "found a FITS file"),
    "row 4 psd": (b"8BPS\0\1" + bytes(20), "found a Photoshop (PSD) file"),
    "row 4 avif": (b"\0\0\0\x1cftypavif" + bytes(16), "found an AVIF picture"),
    "row 5 jpeg cut": (JPEG[: len(JPEG) // 2], "found a damaged one"),
    "row 5 png cut": (PNG[: len(PNG) // 2], "is cut"),
    "row 6 jpeg header alone": (JPEG[:20], "found a damaged one"),
    "row 6 png signature alone": (PNG[:8], "found a damaged one"),
    "row 7 header crc": (PNG[:29] + b"\0\0\0\0" + PNG[33:], "fails its checksum"),
    "row 7 pixels crc": (PNG[:-16] + b"\0\0\0\0" + PNG[-12:], "fails its checksum"),
    "row 8 0x0 png": (png(0, 0), "found a damaged one"),
    "row 8 0x0 gif": (b"GIF89a" + bytes(7) + b",\0\0\0\0\0\0\0\0\0\2\0;", "expected at least 1×1"),
    "row 9 png of 30000² in a header": (png(30_000, 30_000), "found 30000×30000"),
    "row 10 png of 12000²": (bomb(12_000, 12_000), f"expected at most {MAX_PIXELS:,} pixels, found 12000×12000"),
    "row 11 bmp of 60000²": (bmp_header(60_000, 60_000), "found 60000×60000"),
    "row 11 gif of 65535²": (b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;", "found 65535×65535"),
    "row 11 gif whose frame is 12000²": (
        b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<4H", 0, 0, 12000, 12000) + b"\0\2\0;",
        "found 12000×12000",
    ),
    "row 11 webp of 16384²": (
        b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
        "found 16384×16384",
    ),
    "row 12 ztxt bomb": (
        png(1, 1, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**22))), pixels=bytes(4)),
        "found a damaged one",
    ),
    "row 13 65535×1": (encoded(Image.new("L", (65_535, 1)), "PNG"), "expected sides of at most 32,767 pixels"),
    "row 13 1×1000": (encoded(Image.new("L", (1, 1000)), "PNG"), "at most 200 times the shortest, found 1×1000"),
    "row 16 float tiff": (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "found floating-point numbers"),
    "row 16 32-bit tiff": (encoded(Image.new("I", (4, 4), 70_000), "TIFF"), "found 32-bit integers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str) -> None:
    data, found = REFUSED[case]
    with pytest.raises(BadPicture) as caught:
        decode(data, name="holiday\n1.jpg")
    message = str(caught.value)
    assert message.startswith("holiday\\n1.jpg: expected ")
    assert found in message
    assert "\n" not in message


def test_row_14_a_single_pixel_is_a_picture() -> None:
    picture = decode(encoded(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG"), name="dot.png")
    assert pixels(picture).tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("picture_format", ["PNG", "TIFF"])
def test_row_15_grey_of_16_bits_is_scaled_from_its_full_range(picture_format: str) -> None:
    stored = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    picture = decode(encoded(Image.fromarray(stored), picture_format), name="x-ray")
    assert pixels(picture)[0, :, 1].tolist() == [0, 0, 1, 1, 128, 255]  # round(v / 257)
    assert picture.mode == "I;16"
    assert picture.notes == ("16-bit grey scaled from 0–65535 to 0–255",)


def test_row_15_big_endian_tiff() -> None:
    data = tiff((257, 3, 1, 1), (258, 3, 1, 16), pixels=struct.pack(">HH", 257, 65535))
    assert pixels(decode(data, name="x.tif"))[0, :, 0].tolist() == [1, 255]


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ((277, 3, 1, 9), "9 samples per pixel, expected 1 to 6"),
        ((257, 4, 2, 8), "tag 257 has 2 values, expected 1"),
        ((258, 3, 200, 8), "tag 258 points outside the file"),
        ((258, 3, 60, 0), "its tags hold more than the file, so they overlap"),
    ],
)
def test_tiff_tags_that_pillow_would_warn_about(tag: tuple[int, int, int, int], said: str) -> None:
    with pytest.raises(BadPicture, match=said):
        decode(tiff((257, 3, 1, 1), (258, 3, 1, 8), (325, 1, 120, 0), replaced=tag), name="x.tif")


def test_row_15_transparent_grey_of_16_bits() -> None:
    rows = b"\0" + struct.pack(">2H", 514, 771)
    data = png(2, 1, chunk(b"tRNS", struct.pack(">H", 514)), pixels=rows, colour=0, bits=16)
    assert pixels(decode(data, name="x.png"))[0, :, 0].tolist() == [255, 3]


def test_row_17_palette_with_alpha_is_composited_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([200, 0, 0, 0, 100, 0, 0, 0, 50])
    image.putdata([0, 1, 2])
    picture = decode(encoded(image, "PNG", transparency=bytes([255, 0, 255])), name="icon.png")
    assert pixels(picture)[0].tolist() == [[200, 0, 0], [255, 255, 255], [0, 0, 50]]
    assert picture.notes == ("transparency shown on white",)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (100, 50, 0, 51), [224, 214, 204]),  # 255 - 0.2 · (255 - c)
        ("LA", (100, 51), [224, 224, 224]),
        ("RGBA", (100, 50, 0, 255), [100, 50, 0]),
    ],
)
def test_row_18_alpha_is_composited_on_white(mode: str, colour: tuple[int, ...], expected: list[int]) -> None:
    picture = decode(encoded(Image.new(mode, (2, 2), colour), "PNG"), name="logo.png")
    assert pixels(picture)[0, 0].tolist() == expected
    assert picture.mode == mode
    assert bool(picture.notes) == (colour[-1] < 255)


def test_row_18_one_transparent_colour() -> None:
    rows = b"\0" + bytes([1, 2, 3, 9, 9, 9])
    data = png(2, 1, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)), pixels=rows)
    assert pixels(decode(data, name="x.png"))[0].tolist() == [[255, 255, 255], [9, 9, 9]]


def test_row_19_one_bit() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for picture_format in ("PNG", "BMP", "TIFF"):
        assert pixels(decode(encoded(image, picture_format), name="fax"))[0, :, 0].tolist() == [0, 255]


def test_row_20_cmyk() -> None:
    ink = (51, 102, 0, 51)  # cyan 20 %, magenta 40 %, black 20 %
    expected = [163, 122, 204]  # 255 · (1 - ink) · (1 - black)
    for picture_format, tolerance in (("TIFF", 1), ("JPEG", 3)):  # Adobe's JPEG stores the inks inverted
        data = encoded(Image.new("CMYK", (16, 16), ink), picture_format)
        picture = decode(data, name="print")
        assert picture.mode == "CMYK"
        np.testing.assert_allclose(pixels(picture)[8, 8], expected, atol=tolerance)
        assert (b"Adobe" in data) == (picture_format == "JPEG")


def srgb(lightness: float, a: float, b: float) -> np.ndarray:
    """CIE L*a*b* under D50 → sRGB, 0–255, by CIE 15:2004 §8.2.1 and IEC 61966-2-1; Lindbloom's Bradford matrix."""
    f = np.array([a / 500, 0, -b / 200]) + (lightness + 16) / 116
    xyz = np.where(f > 6 / 29, f**3, (f - 16 / 116) * 108 / 841) * (0.96422, 1, 0.82521)
    linear = np.array(
        [
            (3.1338561, -1.6168667, -0.4906146),
            (-0.9787684, 1.9161415, 0.0334540),
            (0.0719453, -0.2289914, 1.4052427),
        ]
    ) @ xyz.clip(0)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("stored", [(153, 148, 158), (102, 108, 108), (191, 128, 128), (77, 158, 98), (255, 128, 128)])
def test_row_21_lab(stored: tuple[int, int, int]) -> None:
    picture = decode(encoded(Image.new("LAB", (4, 4), stored), "TIFF"), name="proof.tif")
    assert picture.mode == "LAB"
    np.testing.assert_allclose(
        pixels(picture)[0, 0], srgb(stored[0] / 2.55, stored[1] - 128, stored[2] - 128), atol=1.5
    )


# Where the stored picture's first row and column lie when it is shown: EXIF 2.32 §4.6.4.A, table of Orientation.
STORED_TO_SHOWN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", STORED_TO_SHOWN)
@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_row_22_orientation(picture_format: str, orientation: int) -> None:
    options: dict[str, object] = {"lossless": True} if picture_format == "WEBP" else {}
    plain = pixels(decode(encoded(scene(), picture_format, **options), name="x"))
    if picture_format == "TIFF":
        options["tiffinfo"] = {274: orientation}
    else:
        options["exif"] = exif(orientation)
    picture = decode(encoded(scene(), picture_format, **options), name="x")
    np.testing.assert_array_equal(pixels(picture), STORED_TO_SHOWN[orientation](plain))
    assert (picture.width, picture.height) == picture.image.size


@pytest.mark.parametrize(
    "block",
    [
        exif(99),
        exif(0),
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0" + struct.pack("<I", 2**31),
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 400),
        # an orientation of 1, then a resolution that points outside the block
        b"Exif\0\0II*\0" + struct.pack("<IHHHIIHHIII", 8, 2, 0x0112, 3, 1, 1, 0x011A, 5, 1, 2**30, 0),
    ],
)
@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP"])
def test_row_23_garbage_orientation_is_ignored_without_a_warning(picture_format: str, block: bytes) -> None:
    picture = decode(encoded(scene(), picture_format, exif=block), name="x")
    assert (picture.width, picture.height) == (40, 30)


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_row_24_corrupt_colour_profile_is_ignored(picture_format: str) -> None:
    plain = decode(encoded(scene(), picture_format), name="x")
    profiled = decode(encoded(scene(), picture_format, icc_profile=b"not a profile" * 9), name="x")
    np.testing.assert_array_equal(pixels(profiled), pixels(plain))


@pytest.mark.parametrize("picture_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_row_25_first_frame(picture_format: str) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    first, *others = (Image.new("RGB", (8, 6), colour) for colour in colours)
    options: dict[str, object] = {"lossless": True} if picture_format == "WEBP" else {}
    picture = decode(encoded(first, picture_format, save_all=True, append_images=others, **options), name="x")
    assert pixels(picture)[0, 0].tolist() == [250, 0, 0]
    assert picture.notes == (f"only the first {'page' if picture_format == 'TIFF' else 'frame'} is used",)


def test_row_25_apng_of_no_frames_is_a_still_png_without_a_warning() -> None:
    control = chunk(b"acTL", struct.pack(">II", 0, 0))
    picture = decode(png(1, 1, control, control, pixels=bytes([0, 7, 8, 9])), name="x.png")
    assert pixels(picture).tolist() == [[[7, 8, 9]]]


def test_a_gif_without_its_trailer_is_whole() -> None:
    data = encoded(scene(), "GIF")
    np.testing.assert_array_equal(pixels(decode(data[:-1], name="x.gif")), pixels(decode(data, name="x.gif")))


def test_row_26_a_zip_behind_a_jpeg_changes_nothing() -> None:
    both = JPEG + b"PK\3\4" + bytes(40) + b"PK\5\6" + bytes(18)
    np.testing.assert_array_equal(pixels(decode(both, name="x.jpg")), pixels(decode(JPEG, name="x.jpg")))


def test_row_27_content_counts_and_the_name_is_noted() -> None:
    assert decode(PNG, name="cat.jpg").notes == ("named .jpg but holds PNG",)
    assert decode(PNG, name="cat.jpg").format == "PNG"
    assert (
        decode(PNG, name="cat.PNG").notes == decode(JPEG, name="cat.jfif").notes == decode(PNG, name="cat").notes == ()
    )


def test_row_39_absent_files_and_folders(tmp_path: Path) -> None:
    for path, found in (
        (tmp_path / "absent.jpg", "No such file"),
        (tmp_path, "found a folder"),
        ("nul\0.jpg", "null byte"),
    ):
        with pytest.raises(BadPicture, match=found):
            read_picture(path)


def test_row_39_unreadable_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG)
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(BadPicture, match="Permission denied"):
        read_picture(secret)


def test_row_40_a_fifo_or_device_is_refused_without_opening_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("/dev/zero")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    for name in ("pipe.jpg", "link.jpg"):
        with pytest.raises(BadPicture, match=f"{name}: expected a picture file, found a FIFO, socket or device"):
            read_picture(tmp_path / name)


def test_row_41_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(JPEG)
    assert read_picture(path) == JPEG
    path.write_bytes(PNG)
    assert read_picture(str(path)) == PNG


def test_files_empty_or_too_long_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.touch()
    with pytest.raises(BadPicture, match="found an empty file"):
        read_picture(path)
    with path.open("wb") as file:
        file.truncate(decoding.MAX_FILE_BYTES + 1)  # sparse
    with pytest.raises(BadPicture, match="expected at most 256 MiB"):
        read_picture(path)


def test_reduced_decoding_keeps_twice_the_side() -> None:
    wide = encoded(scene(800, 400), "JPEG", quality=95)
    sizes = {side: decode(wide, name="x.jpg", shortest=side).image.size for side in (25, 26, 50, 51, 100, 101, 300)}
    assert sizes == {
        25: (100, 50), 26: (200, 100), 50: (200, 100), 51: (400, 200),
        100: (400, 200), 101: (800, 400), 300: (800, 400),
    }  # fmt: skip
    picture = decode(wide, name="x.jpg", shortest=50)
    assert (picture.width, picture.height) == (800, 400)
    whole = np.asarray(decode(wide, name="x.jpg").image.resize((20, 10), Image.Resampling.BOX), int)
    assert np.abs(np.asarray(picture.image.resize((20, 10), Image.Resampling.BOX), int) - whole).max() <= 2


def test_reduced_decoding_leaves_other_formats_whole() -> None:
    assert decode(encoded(scene(800, 400), "PNG"), name="x.png", shortest=10).image.size == (800, 400)


def samples_of_every_format() -> dict[str, bytes]:
    image, grey16 = scene(24, 18), Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 150)
    again = image.transpose(Image.Transpose.ROTATE_180)
    tiffs = {
        f"tiff {kind}": encoded(image.convert(mode), "TIFF", compression=kind, tiffinfo={274: 6})
        for kind, mode in [
            ("raw", "RGB"), ("tiff_lzw", "CMYK"), ("tiff_adobe_deflate", "LA"), ("jpeg", "RGB"), ("packbits", "P"),
        ]
    }  # fmt: skip
    return tiffs | {
        "jpeg": encoded(image, "JPEG", exif=exif(6)),
        "progressive": encoded(image, "JPEG", progressive=True),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image, "PNG", exif=exif(8)),
        "png palette": encoded(image.convert("P"), "PNG", transparency=3),
        "png 16": encoded(grey16, "PNG"),
        "apng": encoded(image, "PNG", save_all=True, append_images=[again]),
        "webp": encoded(image, "WEBP", exif=exif(3)),
        "webp lossless": encoded(image.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": encoded(image, "WEBP", save_all=True, append_images=[again]),
        "gif": encoded(image, "GIF", save_all=True, append_images=[again], transparency=0),
        "bmp": encoded(image, "BMP"),
        "bmp palette": encoded(image.convert("P"), "BMP"),
        "tiff pages": encoded(image, "TIFF", save_all=True, append_images=[again]),
        "tiff big": encoded(grey16, "TIFF", big_tiff=True),
    }


def damaged(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.25:
        return data[: draw.randrange(len(data))]
    changed = bytearray(data)
    within = min(len(data), draw.choice([64, 256, len(data)]))
    for _ in range(draw.randrange(1, 6)):
        changed[draw.randrange(within)] = draw.randrange(256)
    return bytes(changed)


def attempted(data: bytes, name: str) -> Picture | BadPicture:
    try:
        return decode(data, name=name)
    except BadPicture as refusal:
        return refusal


def test_damaged_bytes_give_a_picture_or_a_refusal_and_nothing_else() -> None:
    draw = random.Random(20_26)
    outcomes = {"picture": 0, "refusal": 0}
    for name, data in samples_of_every_format().items():
        assert isinstance(attempted(data, name), Picture)
        for _ in range(60):
            outcome = attempted(damaged(data, draw), name)
            if isinstance(outcome, Picture):
                assert outcome.image.mode == "RGB"
                assert outcome.image.size == (outcome.width, outcome.height)
                outcomes["picture"] += 1
            else:
                assert str(outcome).startswith(f"{name}: expected ")
                assert "\n" not in str(outcome)
                outcomes["refusal"] += 1
    assert min(outcomes.values()) > 200  # the damage is neither always fatal nor never


def test_threads_decode_the_same_pixels() -> None:
    samples = samples_of_every_format()
    alone = {name: pixels(decode(data, name=name)) for name, data in samples.items()}
    start = threading.Barrier(4)

    def together(_: int) -> dict[str, np.ndarray]:
        start.wait()
        return {name: pixels(decode(data, name=name)) for name, data in samples.items() for _ in range(5)}

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(together, range(4)):
            for name, expected in alone.items():
                np.testing.assert_array_equal(found[name], expected)


def test_a_real_folder_decodes_as_pillow_does(data_kit: Callable[[str], Path]) -> None:
    for path in sorted(data_kit("imagenet-200").glob("*.jpg"))[:20]:
        with Image.open(path) as image:
            np.testing.assert_array_equal(
                pixels(decode(read_picture(path), name=path.name)), np.asarray(image.convert("RGB"))
            )
