"""The page of examples: what stands on it, and what is refused."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from graft.errors import BadPicture, UsageError
from graft.jobs.augment import examples, run_augment


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of 160×120."""
    path = tmp_path / "photo.png"
    Image.fromarray(load_sample_image("china.jpg")[100:340:2, 100:420:2]).save(path)
    return path


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """A grey picture of 28×28."""
    path = tmp_path / "digit.png"
    Image.fromarray((np.arange(28 * 28) % 251).astype(np.uint8).reshape(28, 28)).save(path)
    return path


def test_each_row_shows_what_its_name_says(photo: Path) -> None:
    original, flip, jpeg = examples(photo, ("flip", "jpeg"), draws=3, side=512)
    pixels = np.asarray(Image.open(photo))
    assert np.array_equal(original.pictures[0], pixels)
    assert len(flip.pictures) == 3
    assert all(np.array_equal(picture, pixels[:, ::-1]) for picture in flip.pictures)  # always, not half of the time
    differences = [np.abs(picture.astype(int) - pixels).mean() for picture in jpeg.pictures]
    assert len(set(differences)) == 3
    assert 0 < min(differences) < max(differences) < 30


def test_a_policy_is_applied_as_training_applies_it(photo: Path) -> None:
    _, light = examples(photo, ("light",), draws=12, side=64)
    _, again = examples(photo, ("light",), draws=12, side=64)
    _, other = examples(photo, ("light",), draws=12, side=64, seed=1)
    assert len({picture.tobytes() for picture in light.pictures}) == 12
    assert all(map(np.array_equal, light.pictures, again.pictures))
    assert not all(map(np.array_equal, light.pictures, other.pictures))


def test_mixing_takes_the_other_picture(photo: Path, digit: Path) -> None:
    original, mixup, histogram = examples(photo, ("mixup", "histogram"), others=[digit], draws=2, side=60)
    ours, theirs = (picture.astype(float) for picture in original.pictures)
    assert ours.shape == theirs.shape == (60, 80, 3)
    for picture in mixup.pictures:
        share = ((picture - theirs) * (ours - theirs)).sum() / ((ours - theirs) ** 2).sum()
        assert np.abs(picture - (share * ours + (1 - share) * theirs)).max() < 1
        assert 0 < share < 1
    brightness = [np.sort(each[:, :, 0].ravel()).astype(float) for each in (histogram.pictures[0], theirs)]
    assert np.abs(brightness[0] - brightness[1]).mean() < 6


def test_small_and_grey_pictures_keep_their_size(digit: Path) -> None:
    rows = examples(digit, ("jitter", "crop", "pca"), draws=2)
    assert {picture.shape for row in rows for picture in row.pictures} == {(28, 28, 3)}
    assert all((picture == picture[..., :1]).all() for row in rows for picture in row.pictures)
    assert np.array_equal(rows[3].pictures[0], rows[0].pictures[0])  # no colour noise without colour


def test_of_a_long_picture_the_middle_is_shown(tmp_path: Path) -> None:
    Image.new("RGB", (600, 60)).save(tmp_path / "long.png")
    original, _ = examples(tmp_path / "long.png", ("flip",), side=30)
    assert original.pictures[0].shape == (30, 60, 3)


def test_the_image_holds_the_pictures_pixel_for_pixel(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.png"
    said = run_augment(photo, only="flip,rotate", out=out, draws=2, side=512)
    assert said == f"wrote {out}: 2 ways to change a picture, 2 examples of each"
    page, pixels = np.asarray(Image.open(out).convert("RGB")), np.asarray(Image.open(photo))
    h, w = pixels.shape[:2]
    for expected, row in ((pixels, 0), (pixels[:, ::-1], 1)):
        places = [
            (top, left)
            for top in range(row * h, page.shape[0] - h + 1)
            for left in range(200, 260)
            if np.array_equal(page[top, left : left + w], expected[0])
        ]
        assert any(np.array_equal(page[top : top + h, left : left + w], expected) for top, left in places)


def test_the_html_holds_all_and_needs_nothing_else(digit: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    run_augment(digit, policy="strong", out=out, draws=2)
    page = out.read_text(encoding="utf-8")
    names = re.findall("<h2>(.*?)</h2>", page)
    assert names[0] == "original"
    assert names[-1] == "strong"
    assert {"lens", "jpeg", "cutout"} < set(names)
    assert "histogram" not in names  # there is no other picture to take it from
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 1 + 2 * (len(names) - 1)
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (84, 84)  # three times as large
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_page_is_not_overwritten_unasked(digit: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.jpg"
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already; choose another --out, or --force"):
        run_augment(digit, only="flip", out=out, draws=1)
    assert out.read_bytes() == b"mine"
    run_augment(digit, only="flip", out=out, draws=1, force=True)
    assert out.read_bytes().startswith(b"\xff\xd8\xff")  # a JPEG file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digit.png", "page.jpg"]


def test_all_is_shown_unless_it_needs_another_picture(
    digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_augment(digit, draws=1)
    assert said.splitlines() == [
        "wrote digit-augmented.png: 22 ways to change a picture, 1 example of each",
        "left out histogram, mixup, cutmix, which need another picture; add --with PICTURE",
    ]
    assert (tmp_path / "digit-augmented.png").is_file()


def test_mistakes_are_one_line(digit: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.png"
    for arguments, words in (
        ({"only": "lens,jpg"}, "did you mean 'jpeg'"),
        ({"only": ""}, "got ''"),
        ({"only": "cutmix"}, "cutmix needs another picture; add --with PICTURE"),
        ({"policy": "strnog"}, "did you mean 'strong'"),
        ({"policy": "light", "only": "lens"}, "choose one of them"),
        ({"out": tmp_path / "new.gif"}, "must end in .png, .jpg, .webp, .html"),
        ({"draws": 0}, "--draws must be 1 to 20, got 0"),
        ({"side": 4}, "--side must be 8 to 512 pixels, got 4"),
        ({"seed": -1}, "--seed must be at least 0"),
    ):
        with pytest.raises(UsageError) as caught:
            run_augment(digit, **{"out": out, **arguments})  # type: ignore[arg-type]
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(BadPicture, match=r"no\.png"):
        run_augment(tmp_path / "no.png", out=out)
    assert not out.exists()
