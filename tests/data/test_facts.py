"""One picture's record, against hand-worked values, numpy on whole pictures, and SciPy's filters."""

from __future__ import annotations

import hashlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from graft.data.decode import Picture, decode
from graft.data.facts import FORMATS, MODES, facts_of, fingerprint


def picture(pixels: NDArray[np.uint8]) -> Picture:
    """(h, w) grey or (h, w, 3) RGB pixels as if decoded from a PNG."""
    image = Image.fromarray(pixels).convert("RGB")
    return Picture(image, image.width, image.height, "PNG", "RGB")


def soft(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A grey picture with detail of a few per cent of its side, as photos have."""
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), 0.05 * min(height, width))
    return (127.5 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def cosine(a: NDArray[np.int8], b: NDArray[np.int8]) -> float:
    x, y = a.astype(float), b.astype(float)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def test_sharpness_of_a_hand_worked_picture() -> None:
    grey = np.zeros((3, 4), np.uint8)
    grey[1, 1] = 10
    # Laplacian inside: -40 and 10, so mean -15 and variance 25² = 625.
    assert facts_of(picture(grey))["sharpness"] == pytest.approx(625, rel=1e-6)
    assert facts_of(picture(grey[:2]))["sharpness"] == 0  # no inside


def test_brightness_contrast_and_bright_end_are_those_of_the_pixels() -> None:
    grey = np.random.default_rng(0).integers(0, 200, (90, 128)).astype(np.uint8)
    record = facts_of(picture(grey))
    assert record["brightness"] == pytest.approx(grey.mean(), rel=1e-6)
    assert record["contrast"] == pytest.approx(grey.std(), rel=1e-6)
    assert record["bright_end"] == np.percentile(grey, 95, method="inverted_cdf")


@pytest.mark.parametrize("shape", [(341, 256), (128, 1000), (700, 129)])
def test_a_large_picture_is_measured_reduced(shape: tuple[int, int]) -> None:
    grey = soft(np.random.default_rng(1), *shape)
    record = facts_of(picture(grey))
    assert record["brightness"] == pytest.approx(grey.mean(), abs=0.5)
    assert record["contrast"] == pytest.approx(grey.std(), rel=0.05)  # means of boxes vary a little less
    assert (record["width"], record["height"]) == shape[::-1]


def test_fingerprint_agrees_with_filters_in_floating_point() -> None:
    grey = soft(np.random.default_rng(2), 128, 128)
    cells = grey.reshape(16, 8, 16, 8).mean((1, 3)).round()
    tent = np.array([0.25, 0.5, 0.25])
    smooth = ndimage.correlate(cells, np.outer(tent, tent), mode="nearest")
    detail = smooth - ndimage.uniform_filter(smooth, 5, mode="nearest")
    found = fingerprint(grey).reshape(16, 16).astype(float)
    squared = np.sign(found) * found**2 / 127**2  # undoes the root, which hides errors near 1 and swells those near 0
    assert np.abs(squared - detail / np.abs(detail).max()).max() < 0.03  # the root is cut to 127 whole levels
    assert np.abs(found).max() == 127


def test_fingerprint_ignores_light_and_needs_detail() -> None:
    grey = soft(np.random.default_rng(3), 100, 140)
    dimmer = (grey * 0.6 + 30).astype(np.uint8)
    assert cosine(fingerprint(grey), fingerprint(dimmer)) > 0.99
    flat = np.full((100, 140), 90, np.uint8)
    assert not fingerprint(flat).any()
    noisy = flat + np.random.default_rng(4).integers(-3, 4, flat.shape).astype(np.uint8)
    assert not fingerprint(noisy).any()
    ramp = np.tile(np.arange(0, 140, dtype=np.uint8), (100, 1)) // 8
    assert not fingerprint(ramp).any()  # faint, smooth light from one side is no detail


def test_a_record_is_the_same_on_every_machine() -> None:
    y, x = np.mgrid[:200, :300]
    pixels = np.stack([(x * y) % 256, (x * 3 + y * 5) % 256, (x * x // 7) % 256], 2).astype(np.uint8)
    record = facts_of(picture(pixels))
    assert hashlib.sha256(record.tobytes()).hexdigest()[:16] == "782b05fec408f2de"


def test_the_digest_is_of_the_pixels_and_the_size() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (8, 2, 3)).astype(np.uint8)
    image, digests = Image.fromarray(pixels), []
    for name in ("PNG", "BMP"):
        stream = BytesIO()
        image.save(stream, name)
        digests.append(facts_of(decode(stream.getvalue(), name=f"a.{name.lower()}"))["pixels"].tobytes())
    assert digests[0] == digests[1] == hashlib.sha256(b"2 8 " + pixels.tobytes()).digest()[:16]
    assert facts_of(picture(pixels.reshape(2, 8, 3)))["pixels"].tobytes() != digests[0]
    pixels[0, 0, 0] ^= 1
    assert facts_of(picture(pixels))["pixels"].tobytes() != digests[0]


def test_format_mode_and_colour_are_those_of_the_file() -> None:
    stream = BytesIO()
    Image.new("L", (40, 30), 128).save(stream, "JPEG")
    grey = facts_of(decode(stream.getvalue(), name="a.jpg"))
    assert (FORMATS[grey["format"]], MODES[grey["mode"]], bool(grey["grey"])) == ("JPEG", "L", True)
    stream = BytesIO()
    Image.new("RGBA", (40, 30), (200, 30, 30, 255)).save(stream, "PNG")
    red = facts_of(decode(stream.getvalue(), name="a.png"))
    assert (FORMATS[red["format"]], MODES[red["mode"]], bool(red["grey"])) == ("PNG", "RGBA", False)
