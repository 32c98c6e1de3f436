"""The main job from pictures to a finished model folder, on real pictures."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graft
from graft.classifier.manifest import Manifest
from graft.jobs import train
from graft.training.recipe.settings import Recipe


def rows(model: Path) -> list[dict[str, str]]:
    with (model / "samples.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def fields(model: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((model / "model.json").read_text())
    return loaded


def weights(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


def test_the_folder_holds_what_the_manifest_lists(model: Path) -> None:
    there = {str(p.relative_to(model)) for p in model.rglob("*") if p.is_file()}
    assert there == {"model.json", *fields(model)["files"]}
    assert {"model.safetensors", "model.onnx", "samples.csv", "report.html", "history.jsonl"} <= there


def test_the_manifest_says_what_was_learnt_and_how_well(model: Path) -> None:
    said = fields(model)
    assert said["classes"] == ["0", "1", "4", "7"]
    assert (said["network"], said["strategy"], said["looks"]) == ("efficientnet-lite0", "probe", 1)
    assert said["data"]["counts"] == {name: {"train": 16, "val": 0, "test": 4} for name in "0147"}
    assert said["test"]["n"] == 16
    top1 = said["test"]["top1"]
    assert 0 < top1["low"] < top1["value"] <= top1["high"] <= 1
    steps = {name: value for name, value in said["seconds"].items() if name not in ("total", "limit")}
    assert {"network", "features", "head", "test"} <= steps.keys()
    assert sum(steps.values()) <= said["seconds"]["total"]
    assert said["seconds"]["limit"] > 0


def test_the_score_is_the_share_of_test_pictures_called_right(model: Path) -> None:
    tested = [row for row in rows(model) if row["part"] == "test"]
    right = sum(row["predicted"] == row["label"] for row in tested)
    assert fields(model)["test"]["top1"]["value"] == pytest.approx(right / len(tested))


def test_the_saved_graph_says_what_the_table_of_pictures_says(model: Path, digits: Path) -> None:
    tested = [row for row in rows(model) if row["part"] == "test"]
    said = graft.load(model).predict([digits / row["path"] for row in tested])
    assert [one.label for one in said] == [row["predicted"] for row in tested]
    for one, row in zip(said, tested, strict=True):
        given = dict(one.top(4))[row["label"]]
        assert given == pytest.approx(float(row["probability_of_label"]), abs=5e-3)  # features went through float16


def test_the_report_loads_nothing_from_elsewhere(model: Path) -> None:
    html = (model / "report.html").read_text()
    assert "<html" in html
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html) == []
    assert re.findall(r"url\(\s*[\"']?(?!data:)|@import|<link|<iframe", html) == []


def test_photos_are_told_apart_far_better_than_by_the_majority(
    data_kit: Callable[[str], Path], session_cache: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for name in ("glass", "metal", "paper"):
        (photos / name).mkdir(parents=True)
        for picture in sorted((data_kit("trashnet") / name).iterdir())[:30]:
            shutil.copy(picture, photos / name)
    settings = Recipe(strategy="probe", probe_on="top", cache=session_cache)
    test = train.run(photos, tmp_path / "model", settings).test
    assert test is not None
    assert test.baseline.value == pytest.approx(1 / 3)
    assert test.top1.low > 1 / 3


def test_the_same_seed_gives_the_same_bits_cold_warm_and_in_two_parts(
    model: Path, digits: Path, session_cache: Path, tmp_path: Path
) -> None:
    """The second run computes nothing; ten pictures more cost ten; the order of computing leaves no trace."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "trunks").symlink_to(session_cache / "trunks")
    settings = Recipe(strategy="probe", probe_on="top", cache=cache)
    fewer = tmp_path / "fewer"
    shutil.copytree(digits, fewer)
    for picture in sorted(fewer.glob("4/*.png"))[:10]:
        picture.unlink()

    def trained(folder: Path, name: str) -> Manifest:
        return train.run(folder, tmp_path / name, settings)

    assert trained(fewer, "fewer-model").data.computed == 70
    assert trained(digits, "in-parts").data.computed == 10
    assert trained(digits, "warm").data.computed == 0
    assert weights(tmp_path / "in-parts") == weights(tmp_path / "warm") == weights(model)  # model: from a cold cache
    assert weights(tmp_path / "fewer-model") != weights(model)


def test_another_seed_draws_another_test(model: Path, digits: Path, session_cache: Path, tmp_path: Path) -> None:
    train.run(digits, tmp_path / "model", Recipe(strategy="probe", cache=session_cache, seed=1))

    def tested(folder: Path) -> set[str]:
        return {row["path"] for row in rows(folder) if row["part"] == "test"}

    assert len(tested(tmp_path / "model")) == len(tested(model)) == 16
    assert tested(tmp_path / "model") != tested(model)
