"""The forms in which pictures come, and the options that decide what is made of them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graft.errors import BadFolder, BadPicture
from graft.jobs import train
from graft.training.recipe.settings import Recipe


@pytest.fixture
def settings(session_cache: Path) -> Recipe:
    """Logistic regression or what beats it, on the top features, with the shared cache."""
    return Recipe(strategy="probe", probe_on="top", cache=session_cache)


def rows(model: Path) -> dict[str, dict[str, str]]:
    """Path → its row of samples.csv."""
    with (model / "samples.csv").open(newline="", encoding="utf-8") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def fields(model: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((model / "model.json").read_text())
    return loaded


def in_splits(digits: Path, folder: Path, *names: str) -> Path:
    """`digits` as ready splits: pictures 16 to 19 of each class in the last of `names`, the rest in `train`."""
    for picture in digits.glob("*/*.png"):
        part = names[-1] if int(picture.stem) >= 16 else names[0]
        target = folder / part / picture.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, target)
    return folder


def test_given_splits_stand_as_they_are(digits: Path, settings: Recipe, tmp_path: Path) -> None:
    train.run(in_splits(digits, tmp_path / "photos", "train", "test"), tmp_path / "new", settings)
    assert {path.split("/")[0] == row["part"] for path, row in rows(tmp_path / "new").items()} == {True}
    assert fields(tmp_path / "new")["test"]["n"] == 16
    assert fields(tmp_path / "new")["test_without_leaks"] is None


def test_val_serves_as_the_test_where_there_is_none(digits: Path, settings: Recipe, tmp_path: Path) -> None:
    train.run(in_splits(digits, tmp_path / "photos", "train", "val"), tmp_path / "new", settings)
    said = fields(tmp_path / "new")
    assert said["test"]["n"] == 16
    assert said["data"]["notes"] == ["there is no test split: val serves as the test"]


def test_a_leak_across_given_splits_is_told_with_the_score_without_it(
    digits: Path, settings: Recipe, tmp_path: Path
) -> None:
    photos = in_splits(digits, tmp_path / "photos", "train", "test")
    for name in "0147":
        shutil.copy(photos / "train" / name / "00.png", photos / "test" / name / "leak.png")
    train.run(photos, tmp_path / "new", settings)
    said = fields(tmp_path / "new")
    clean = [r for path, r in rows(tmp_path / "new").items() if r["part"] == "test" and "leak" not in path]
    assert (said["test"]["n"], said["test_without_leaks"]["n"]) == (20, 16)
    right = sum(row["predicted"] == row["label"] for row in clean)
    assert said["test_without_leaks"]["top1"]["value"] == pytest.approx(right / 16)
    assert "leak-exact" in {finding["kind"] for finding in said["data"]["findings"]}


@pytest.mark.parametrize("with_split", [False, True])
def test_a_csv_of_paths_labels_and_splits(
    digits: Path, session_cache: Path, model: Path, tmp_path: Path, with_split: bool
) -> None:
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", *(["split"] if with_split else [])])
        for picture in digits.glob("*/*.png"):
            part = ["test" if int(picture.stem) < 5 else "train"] if with_split else []
            writer.writerow([picture.relative_to(digits), picture.parent.name, *part])
    train.run(digits, tmp_path / "new", Recipe(strategy="probe", probe_on="top", csv=table, cache=session_cache))
    if with_split:
        tested = {path for path, row in rows(tmp_path / "new").items() if row["part"] == "test"}
        assert tested == {f"{name}/{n:02d}.png" for name in "0147" for n in range(5)}
    else:
        assert (tmp_path / "new" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_a_zip_gives_the_same_model_as_its_folder(digits: Path, settings: Recipe, model: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", digits))
    train.run(archive, tmp_path / "new", settings)
    assert (tmp_path / "new" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_a_class_of_one_picture_is_learnt_and_its_missing_test_said(
    digits: Path, settings: Recipe, tmp_path: Path
) -> None:
    shutil.copytree(digits, tmp_path / "photos")
    for picture in list((tmp_path / "photos" / "7").iterdir())[1:]:
        picture.unlink()
    said = train.run(tmp_path / "photos", tmp_path / "new", settings).data
    assert said.counts["7"].model_dump() == {"train": 1, "val": 0, "test": 0}
    assert said.notes == ("class '7' cannot be split (one picture): all of it is in train, none in the test",)


def test_two_pictures_are_too_few(digits: Path, settings: Recipe, tmp_path: Path) -> None:
    for name in "01":
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(digits / name / "00.png", tmp_path / "photos" / name)
    with pytest.raises(BadFolder, match="is too small to learn from and to test"):
        train.run(tmp_path / "photos", tmp_path / "new", settings)
    assert not list(tmp_path.glob("*new*"))


def test_a_picture_under_two_labels_decides_nothing(digits: Path, settings: Recipe, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "photos")
    shutil.copy(digits / "0" / "00.png", tmp_path / "photos" / "1" / "also.png")
    said = train.run(tmp_path / "photos", tmp_path / "new", settings)
    torn = [rows(tmp_path / "new")[path] for path in ("0/00.png", "1/also.png")]
    assert [(row["part"], row["predicted"]) for row in torn] == [("train", ""), ("train", "")]
    assert "two-labels-exact" in {finding.kind for finding in said.data.findings}
    assert said.data.notes == ("pictures under different labels, kept in train: 2 (groups: 1)",)


def test_balanced_weights_raise_what_a_rare_class_is_given(digits: Path, session_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "photos")
    for number in range(6, 20):
        (tmp_path / "photos" / "7" / f"{number:02d}.png").unlink()
    given = []
    for weights in ("none", "balanced"):
        out = tmp_path / weights
        train.run(
            tmp_path / "photos",
            out,
            Recipe(strategy="probe", probe_on="top", class_weights=weights, cache=session_cache),
        )
        rare = [float(r["probability_of_label"]) for r in rows(out).values() if r["label"] == "7"]
        given.append(np.mean(rare))
        assert fields(out)["record"]["settings"]["class_weights"] == weights
    assert given[1] > given[0]


@pytest.mark.parametrize(
    ("fit", "at_the_left", "at_the_top"),
    [("squash", "red", "red"), ("crop", "blue", "blue"), ("pad", "red", "neither")],
)
def test_fit_decides_what_the_network_sees_of_a_wide_picture(
    session_cache: Path, tmp_path: Path, fit: str, at_the_left: str, at_the_top: str
) -> None:
    """A picture 3:1, its middle third blue and the rest red: cropped to the middle, squashed whole, or under bars."""
    rng = np.random.default_rng(0)
    for name, blue in (("dark", 140), ("light", 250)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.zeros((224, 672, 3), np.uint8)
            pixels[:, :, 0] = 230
            pixels[:, 224:448] = (0, 0, blue)
            pixels[:, :, 1] = np.kron(rng.integers(0, 60, (7, 21)), np.ones((32, 32)))  # so that no two are alike
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    out = tmp_path / "new"
    train.run(tmp_path / "photos", out, Recipe(strategy="probe", probe_on="top", fit=fit, cache=session_cache))
    with Image.open(out / "golden" / "0.png") as picture:
        left, top = picture.getpixel((8, 112)), picture.getpixel((8, 8))

    def colour(pixel: object) -> str:
        red, _, blue = pixel  # type: ignore[misc]
        return "red" if red > 180 and blue < 60 else "blue" if blue > 100 and red < 60 else "neither"

    assert (colour(left), colour(top)) == (at_the_left, at_the_top)
    assert fields(out)["preprocess"]["fit"] == fit


def test_a_bad_picture_is_set_aside_and_counted_or_stops_the_run(
    digits: Path, session_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(digits, tmp_path / "photos")
    (tmp_path / "photos" / "0" / "torn.png").write_bytes((digits / "0" / "00.png").read_bytes()[:100])
    train.run(tmp_path / "photos", tmp_path / "new", Recipe(strategy="probe", probe_on="top", cache=session_cache))
    assert fields(tmp_path / "new")["data"]["set_aside"] == 1
    assert fields(tmp_path / "new")["data"]["pictures"] == 80
    html = (tmp_path / "new" / "report.html").read_text()
    assert "1 file set aside" in html
    assert "torn.png" in html
    with pytest.raises(BadPicture, match=r"torn\.png"):
        train.run(
            tmp_path / "photos",
            tmp_path / "strict",
            Recipe(strategy="probe", probe_on="top", cache=session_cache, on_bad_image="strict"),
        )
    assert not list(tmp_path.glob("*strict*"))
