"""`graft advise` on real digits: what it says, writes and leaves alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import graft
from graft.errors import BadFolder, UsageError
from graft.strategy.advice import Advice
from graft.training.recipe.settings import Recipe


@pytest.fixture(scope="module")
def written(digits: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Advice, Path]:
    """The advice for the digits, and the folder with its files."""
    folder = tmp_path_factory.mktemp("advice")
    found = graft.advise(
        digits, recipe=Recipe(cache=session_cache), json=folder / "advice.json", out=folder / "advice.html"
    )
    return found, folder


def test_grey_digits_are_few_and_unlike_imagenet(written: tuple[Advice, Path]) -> None:
    found, _ = written
    assert (found.pictures, found.classes) == (64, 4)  # 16 of the 80 are for the test
    assert found.likeness.word == "unlike"
    assert found.cell.advised == "probe earlier stages"
    assert found.decision.kind == "probe"
    assert found.decision.reads != ("features",)


def test_every_stage_is_probed_on_the_same_pictures(written: tuple[Advice, Path]) -> None:
    found, _ = written
    names = ["stem", *(f"blocks.{i}" for i in range(7)), "features", "stem … blocks.6", "stem … features"]
    assert [score.stage for score in found.scores] == names  # conv_head's averages are the features
    assert {len(score.right) for score in found.scores} == {64}
    by_name = {score.stage: score for score in found.scores}
    assert by_name["blocks.5"].accuracy > by_name["blocks.0"].accuracy > 0.25


def test_the_files_say_what_the_advice_says(written: tuple[Advice, Path]) -> None:
    found, folder = written
    said = json.loads((folder / "advice.json").read_text())
    assert said == json.loads(json.dumps({"network": "efficientnet-lite0", **found.to_json()}))
    html = (folder / "advice.html").read_text()
    assert html.count('<svg class="strip"') == len(found.scores)
    assert html.count('<td class="marked">') == 1
    assert '<td class="marked">linear classifiers on earlier stages</td>' in html
    assert f"<h1>{found.decision.words}</h1>" in html
    assert re.findall(r"""(?:src|href)\s*=|url\(|@import|<script""", html) == []
    assert sorted(path.name for path in folder.iterdir()) == ["advice.html", "advice.json"]


def test_the_same_seed_says_the_same_and_the_test_pictures_have_no_say(
    written: tuple[Advice, Path], digits: Path, session_cache: Path, tmp_path: Path
) -> None:
    found, _ = written
    settings = Recipe(cache=session_cache)
    assert graft.advise(digits, recipe=settings) == found
    shutil.copytree(digits, tmp_path / "in-splits")
    train = tmp_path / "in-splits" / "train"
    train.mkdir()
    for name in "0147":
        (tmp_path / "in-splits" / name).rename(train / name)
        shutil.copytree(digits / name, tmp_path / "in-splits" / "test" / name)
        for picture in sorted((train / name).iterdir())[16:]:
            picture.unlink()
        for picture in sorted((tmp_path / "in-splits" / "test" / name).iterdir())[:16]:
            picture.unlink()
    before = graft.advise(tmp_path / "in-splits", recipe=settings)
    for name, other in (("0", "1"), ("4", "7")):  # swap labels in the test alone
        first, second = (tmp_path / "in-splits" / "test" / one for one in (name, other))
        first.rename(tmp_path / "aside")
        second.rename(first)
        (tmp_path / "aside").rename(second)
    after = graft.advise(tmp_path / "in-splits", recipe=settings)
    assert before == after
    assert all(np.array_equal(a.right, b.right) for a, b in zip(before.scores, after.scores, strict=True))


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("out", "advice.txt", r"--out must end in \.html, got .*advice\.txt"),
        ("out", "there.html", r"there\.html exists already; choose another --out, or --force"),
        ("json", "there.html", r"there\.html exists already; choose another --json, or --force"),
        ("json", "folder", r"--json needs a file, .*folder is a folder"),
    ],
)
def test_files_that_cannot_be_are_refused_before_any_work(
    digits: Path, tmp_path: Path, option: str, name: str, message: str
) -> None:
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "folder").mkdir()
    settings = Recipe(cache=tmp_path / "cache")
    with pytest.raises(UsageError, match=message):
        graft.advise(digits, recipe=settings, **{option: tmp_path / name})
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "there.html").read_text() == "mine"


def test_a_folder_too_small_to_learn_from_is_one_line(digits: Path, session_cache: Path, tmp_path: Path) -> None:
    for name in "01":
        (tmp_path / "small" / name).mkdir(parents=True)
        shutil.copy(digits / name / "00.png", tmp_path / "small" / name)
    with pytest.raises(BadFolder, match=r"^[^\n]*small[^\n]*$"):
        graft.advise(tmp_path / "small", recipe=Recipe(cache=session_cache))
