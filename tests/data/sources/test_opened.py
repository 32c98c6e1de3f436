"""What the jobs accept in place of a folder of pictures: arrays, from `.npz` and IDX files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.data.sources.opened import opened
from graft.errors import BadFolder, UsageError
from graft.jobs import audit, evaluate, train
from graft.training.recipe.settings import Recipe


@pytest.fixture(scope="module")
def saved(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 80 digits of `digits` as a `.npz` file: 16 of each class to train on, 4 to test."""
    x: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    y: dict[str, list[int]] = {"train": [], "test": []}
    for path in sorted(digits.glob("*/*.png")):
        part = "test" if int(path.stem) >= 16 else "train"
        with Image.open(path) as picture:
            x[part].append(np.asarray(picture))
        y[part].append(int(path.parent.name))
    file = tmp_path_factory.mktemp("arrays") / "digits.npz"
    np.savez(file, x_train=x["train"], y_train=y["train"], x_test=x["test"], y_test=y["test"])
    return file


def test_the_whole_job_on_arrays_is_that_on_their_pictures(
    saved: Path, digits: Path, session_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(session_cache))
    for picture in digits.glob("*/*.png"):
        home = tmp_path / "photos" / ("test" if int(picture.stem) >= 16 else "train") / picture.parent.name
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, home)
    settings = Recipe(cache=session_cache)
    seen: list[str] = []
    train.run(saved, tmp_path / "new", settings, progress=lambda what, *_: seen.append(what))
    train.run(tmp_path / "photos", tmp_path / "old", settings)
    said = json.loads((tmp_path / "new" / "model.json").read_text())
    assert seen[0] == "unpacking pictures"
    assert (said["classes"], said["test"]["n"], said["data"]["source"]) == (["0", "1", "4", "7"], 16, "digits.npz")
    old = json.loads((tmp_path / "old" / "model.json").read_text())
    for field in ("pictures", "set_aside", "near_duplicate_groups", "counts"):
        assert said["data"][field] == old["data"][field]
    found = evaluate.run(tmp_path / "new", saved)
    assert (found.seen, found.tested) == (64, 16)


def test_audit_counts_what_arrays_hold(saved: Path, tmp_path: Path) -> None:
    assert audit.run(saved, cache=tmp_path).audit.counts == (20, 20, 20, 20)


def test_a_csv_beside_arrays_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds arrays with labels of their own"), opened(saved, tmp_path, csv=saved):
        pass


def test_a_cache_that_cannot_be_written_is_one_line(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BadFolder, match="cannot be unpacked into") as caught, opened(saved, tmp_path / "cache"):
        pass
    assert "\n" not in str(caught.value)
