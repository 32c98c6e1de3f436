"""Searching a folder: the arithmetic's inputs are the model's own features, and the answer reads well."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.classifier.artefact import load
from graft.cli.texts.search import as_json, as_text
from graft.data.decode import decode, read_picture
from graft.data.preprocess import fit_picture
from graft.errors import BadFolder, BadPicture, UsageError
from graft.jobs.search import SIDE, Found, search
from graft.runtime.graph import below_head
from graft.runtime.onnx import OnnxRunner

Shares = dict[tuple[str, str, int], float]


@pytest.fixture(scope="module")
def found(model: Path, digits: Path, session_cache: Path) -> Found:
    return search(model, digits / "7" / "03.png", digits, k=6, metric="l2", cache=session_cache)


def test_distances_are_those_of_the_models_features_and_of_pixels(model: Path, digits: Path, found: Found) -> None:
    classifier = load(model)
    run = OnnxRunner(below_head(classifier.graph, name="model"))
    paths = [str(path) for path in sorted(digits.glob("*/*.png"))]
    pixels = [fit_picture(decode(read_picture(p), name=p).image, classifier.preprocess) for p in paths]
    small = [np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BOX), np.float64) for p in pixels]
    features = [run(p[None])[0].astype(np.float64) for p in pixels]
    query = paths.index(str(digits / "7" / "03.png"))
    for ranking, x in zip(found.rankings, (features, small), strict=True):
        expected = {p: float(np.linalg.norm(one - x[query])) for p, one in zip(paths, x, strict=True)}
        for match in ranking.matches:
            assert match.distance == pytest.approx(expected[match.path], rel=2e-3)  # the store rounds to float16
            assert match.label == Path(match.path).parent.name
        nearest = sorted(d for p, d in expected.items() if p != paths[query])[:6]
        np.testing.assert_allclose([match.distance for match in ranking.matches], nearest, rtol=2e-3)


def test_the_query_itself_is_left_out_and_named(found: Found, digits: Path) -> None:
    assert found.copies == (str(digits / "7" / "03.png"),)
    assert found.label == "7"
    assert found.copies[0] not in [match.path for ranking in found.rankings for match in ranking.matches]
    assert "left out, since it is the same file: 7/03.png" in as_text(found)


def test_precision_agrees_with_a_plain_count(found: Found, model: Path, digits: Path) -> None:
    """No two of these drawings are near-duplicates, so each picture's nearest other one is what counts."""
    assert found.quality is not None
    assert found.quality.queries == 80
    assert found.quality.chance == pytest.approx(19 / 79)
    small = []
    for path in sorted(digits.glob("*/*.png")):
        picture = fit_picture(decode(read_picture(path), name="").image, load(model).preprocess)
        small.append(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))
    x = np.stack([np.asarray(picture, np.float64).ravel() for picture in small])
    distances = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    right = (distances.argmin(axis=1) // 20 == np.arange(80) // 20).mean()
    assert shares(found)["pixel", "l2", 1] == pytest.approx(right)
    assert [len(at) for _, at in found.quality.at] == [3, 3, 3]


def test_a_folder_without_classes(model: Path, digits: Path, session_cache: Path, tmp_path: Path) -> None:
    for number in range(4):
        shutil.copy(digits / "1" / f"{number:02}.png", tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    said = search(model, digits / "0" / "00.png", tmp_path, cache=session_cache)
    assert (said.pictures, said.copies, said.label, said.quality) == (4, (), None, None)
    assert [len(ranking.matches) for ranking in said.rankings] == [4, 4]
    assert {match.label for match in said.rankings[0].matches} == {None}
    assert said.rankings[0].space.metric == "cosine"
    assert "1 files set aside" in as_text(said)


def test_a_zip_of_class_folders(model: Path, digits: Path, session_cache: Path, tmp_path: Path, found: Found) -> None:
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        for path in digits.glob("*/*.png"):
            archive.write(path, path.relative_to(digits))
    packed, page = tmp_path / "digits.zip", tmp_path / "page.html"
    said = search(model, digits / "7" / "03.png", packed, k=6, metric="l2", out=page, cache=session_cache)
    for mine, theirs in zip(said.rankings, found.rankings, strict=True):
        names = [os.path.relpath(match.path, said.root) for match in mine.matches]
        assert names == [os.path.relpath(match.path, found.root) for match in theirs.matches]
    assert page.read_text().count("data:image/jpeg;base64,") == 13  # the unpacked files were there when it was written


def test_the_page_holds_its_pictures_and_no_markup_of_a_name(
    model: Path, digits: Path, session_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(digits / "0", tmp_path / "photos" / "<b>zero")
    shutil.copytree(digits / "7", tmp_path / "photos" / "seven")
    query, page = tmp_path / "photos" / "seven" / "03.png", tmp_path / "new" / "page.html"
    search(model, query, tmp_path / "photos", k=25, out=page, cache=session_cache)
    text = page.read_text()
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', text)) == 1 + 2 * 25
    assert text.count('<li class="same">') + text.count('<li class="other">') == 2 * 25
    assert "<b>zero" not in text
    assert "&lt;b&gt;zero" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    with pytest.raises(UsageError, match="exists already"):
        search(model, query, tmp_path / "photos", out=page, cache=session_cache)


def test_json_has_what_the_text_has(found: Found) -> None:
    said = json.loads(as_json(found))
    assert said["class"] == "7"
    assert [one["path"] for one in said["feature"]["nearest"]] == [match.path for match in found.rankings[0].matches]
    assert {(p["space"], p["metric"], p["k"]) for p in said["quality"]["precision"]} == set(shares(found))


def test_an_index_gives_what_comparing_all_gives(
    model: Path, digits: Path, session_cache: Path, tmp_path: Path, found: Found
) -> None:
    pytest.importorskip("usearch")
    query, cache = digits / "7" / "03.png", tmp_path / "cache"
    said = search(model, query, digits, k=6, metric="l2", cache=cache, exact_up_to=79)
    for mine, theirs in zip(said.rankings, found.rankings, strict=True):
        assert mine == theirs
    assert len(list((cache / "indexes").iterdir())) == 2
    assert session_cache != cache


def test_what_is_wrong_is_one_line(model: Path, digits: Path, session_cache: Path, tmp_path: Path) -> None:
    query = digits / "0" / "00.png"
    for kind, words, arguments in (
        (UsageError, "did you mean 'cosine'", {"metric": "cosin"}),
        (UsageError, "-k must lie between 1 and 1,000, got 0", {"k": 0}),
        (UsageError, "must end in .html", {"out": tmp_path / "page.png"}),
        (BadPicture, "nothing.png", {"image": tmp_path / "nothing.png"}),
        (BadFolder, "found none in it", {"folder": tmp_path}),
        (BadFolder, "found nothing there", {"folder": tmp_path / "nowhere"}),
        (BadFolder, "found something else", {"folder": query}),
    ):
        given = {"image": query, "folder": digits, "cache": session_cache, **arguments}
        with pytest.raises(kind, match=re.escape(words)) as caught:
            search(model, **given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_on_photos_feature_space_beats_pixel_space(
    data_kit: Callable[[str], Path], model: Path, session_cache: Path, tmp_path: Path
) -> None:
    """The model was trained on digits: below its head it is ImageNet's network, which has never seen this rubbish."""
    for folder in sorted(data_kit("trashnet").iterdir()):
        (tmp_path / "photos" / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.jpg"))[:20]:
            shutil.copy(path, tmp_path / "photos" / folder.name)
    said = shares(search(model, next((tmp_path / "photos").glob("*/*.jpg")), tmp_path / "photos", cache=session_cache))
    assert said["feature", "l2", 1] > said["pixel", "l2", 1] + 0.15
    assert said["feature", "cosine", 10] > said["pixel", "l2", 10] + 0.1


def shares(found: Found) -> Shares:
    assert found.quality is not None
    return {(space.name, space.metric, p.k): p.share.value for space, at in found.quality.at for p in at}
