"""What the audit and the split need to know of one picture, worked out during its one decode.

Everything fits one fixed-size record, so that a store keyed by content can keep it. All arithmetic on pixels is on
integers up to a last division or square root, both of which IEEE 754 rounds correctly: the same pixels give the same
record on every machine. (Two builds of a JPEG library may differ by a grey level; near-duplicates allow for that.)

The fingerprint is a band-passed thumbnail: the picture as 16 × 16 grey cells, smoothed a little (so that a crop of a
few per cent moves no detail out of its cell), less the mean of its 5 × 5 neighbourhood (so that light, vignetting and
a common white background say nothing), square-rooted with its sign (so that one strong edge does not say everything).
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.data.decode import Picture

FACTS_VERSION: Final = "1"  # part of the store's key: raise it with any change of what a record holds

FINGERPRINT_SIDE: Final = 16
_SMALL_SIDE: Final = 128  # brightness, contrast and sharpness are measured on at most 128 × 128 grey pixels
_FAINT: Final = 2  # grey levels (0–255): a picture whose detail never exceeds this has no fingerprint

FORMATS: Final[tuple[str, ...]] = ("other", "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MODES: Final[tuple[str, ...]] = (
    *("other", "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "I;16", "I;16B", "I;16L", "F"),
)

FACTS: Final = np.dtype(
    [
        ("pixels", np.uint8, (16,)),  # digest of size and decoded RGB pixels: equal for exact duplicates
        ("fingerprint", np.int8, (FINGERPRINT_SIDE**2,)),  # band-passed thumbnail, row by row; all 0 where faint
        ("width", np.uint32),  # pixels, as shown: after the orientation, before any reduced decoding
        ("height", np.uint32),
        ("format", np.uint8),  # index into FORMATS
        ("mode", np.uint8),  # index into MODES: the file's own, before it became RGB
        ("grey", np.bool_),  # no colour in the pixels, whatever the mode
        ("bright_end", np.uint8),  # 95th percentile of grey, 0–255
        ("brightness", np.float32),  # mean of grey, 0–255
        ("contrast", np.float32),  # standard deviation of grey, 0–127.5
        ("sharpness", np.float32),  # variance of the Laplacian of grey, in squared grey levels
    ]
)


def _sliding(weights: tuple[int, ...]) -> NDArray[np.float64]:
    """The (16, 16) matrix that weighs each cell's neighbours, the edge repeated outwards."""
    matrix = np.zeros((FINGERPRINT_SIDE, FINGERPRINT_SIDE))
    for row in range(FINGERPRINT_SIDE):
        for offset, weight in enumerate(weights, -(len(weights) // 2)):
            matrix[row, min(max(row + offset, 0), FINGERPRINT_SIDE - 1)] += weight
    return matrix


_SMOOTH: Final = _sliding((1, 2, 1))
_SUM: Final = _sliding((1, 1, 1, 1, 1))
_GREY_TOLERANCE: Final = 8  # levels between R, G and B that JPEG's chroma may leave in a grey picture


def facts_of(picture: Picture) -> NDArray[np.void]:
    """A decoded picture → its record: a () array of dtype FACTS.

    Source: sharpness as the variance of the Laplacian, Pech-Pacheco et al., ICPR 2000, §2.
    """
    small = _reduced(picture.image.convert("L"))  # at most 128 × 128
    histogram = np.array(small.histogram())  # (256,)
    brightness, contrast = _moments(histogram)
    pixels = np.asarray(small)  # (h, w)
    return np.array(
        (
            _digest(picture.image),
            fingerprint(pixels),
            picture.width,
            picture.height,
            _code(picture.format, FORMATS),
            _code(picture.mode, MODES),
            _is_grey(picture.image),
            histogram.cumsum().searchsorted(0.95 * pixels.size),
            brightness,
            contrast,
            _sharpness(pixels),
        ),
        FACTS,
    )


def fingerprint(grey: NDArray[np.uint8]) -> NDArray[np.int8]:
    """(h, w) grey pixels, 0–255 → (256,) int8, −127 to 127; all zero when there is no detail to compare.

    Brightness and contrast of the picture cancel. Two fingerprints are compared by their cosine.
    """
    side = FINGERPRINT_SIDE
    thumbnail = Image.fromarray(grey).resize((side, side), Image.Resampling.BOX)
    smooth = _SMOOTH @ np.asarray(thumbnail).astype(np.float64) @ _SMOOTH.T  # (16, 16), grey levels × 16
    detail = 25 * smooth - _SUM @ smooth @ _SUM.T  # (16, 16), grey levels × 16 × 25; whole numbers, so exact

    largest = int(np.abs(detail).max())
    if largest <= _FAINT * 16 * 25:
        return np.zeros(side * side, np.int8)
    root = np.floor(np.sqrt(np.abs(detail) * 127**2 // largest))  # 0–127
    signed: NDArray[np.int8] = (np.sign(detail) * root).astype(np.int8).ravel()
    return signed


def _reduced(grey: Image.Image) -> Image.Image:
    """A grey picture of any size → at most 128 × 128 means of boxes; a smaller side stays as it is.

    Whole boxes first, because Pillow averages those twice as fast as fractional ones.
    """
    whole = tuple(max(1, length // _SMALL_SIDE) for length in grey.size)
    boxes = grey.reduce((whole[0], whole[1])) if max(whole) > 1 else grey
    size = min(_SMALL_SIDE, boxes.width), min(_SMALL_SIDE, boxes.height)
    return boxes if boxes.size == size else boxes.resize(size, Image.Resampling.BOX)


def _moments(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation of whole numbers, from how often each of 0, 1, 2 … occurs."""
    levels = np.arange(len(histogram))
    count, first, second = int(histogram.sum()), int(histogram @ levels), int(histogram @ levels**2)
    return first / count, float(np.sqrt((count * second - first**2) / count**2))


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """Variance of the 4-neighbour Laplacian inside (h, w) grey pixels; 0 where a side is under 3 pixels."""
    if min(grey.shape) < 3:
        return 0.0
    x = grey.astype(np.int16)
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]
    _, deviation = _moments(np.bincount(laplacian.ravel() + 4 * 255))  # the shift leaves the deviation alone
    return deviation**2


def _is_grey(image: Image.Image) -> bool:
    """Whether 16 × 16 pixels spread over an RGB picture all have (almost) equal channels."""
    sample = np.asarray(image.resize((16, 16), Image.Resampling.NEAREST)).astype(np.int16)  # (16, 16, 3)
    return bool((sample.max(axis=2) - sample.min(axis=2)).max() <= _GREY_TOLERANCE)


def _digest(image: Image.Image) -> NDArray[np.uint8]:
    """(16,) bytes: SHA-256 of the size and the RGB pixels, cut short."""
    digest = hashlib.sha256(b"%d %d " % image.size)
    digest.update(image.tobytes())
    return np.frombuffer(digest.digest()[:16], np.uint8)


def _code(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else 0
