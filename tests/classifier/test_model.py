"""What `graft.load` gives: predictions of every kind of input, lazily."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import graft
from graft.errors import BadModel, BadPicture
from graft.jobs import evaluate


@pytest.fixture(scope="module")
def loaded(model: Path) -> graft.Model:
    """The model of digits."""
    return graft.load(model)


def test_a_path_a_pil_picture_and_an_array_give_the_same(loaded: graft.Model, digits: Path) -> None:
    path = digits / "4" / "03.png"
    with Image.open(path) as picture:
        array = np.asarray(picture)
        from_memory = loaded.predict(picture)
    said = [loaded.predict(path), loaded.predict(str(path)), from_memory, loaded.predict(array)]
    said += loaded.predict([path, array, np.stack([array] * 3, axis=2)])
    for one in said:
        assert one.probabilities is not None
        np.testing.assert_allclose(one.probabilities, said[0].probabilities, atol=1e-6)
    assert said[0].probabilities is not None
    assert said[0].probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert [one.path for one in said[:3]] == [str(path), str(path), ""]


def test_a_bad_picture_raises_alone_and_is_told_in_a_list(loaded: graft.Model, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(BadPicture, match="found text"):
        loaded.predict(tmp_path / "a.jpg")
    bad, good = loaded.predict([tmp_path / "a.jpg", digits / "0" / "00.png"])
    assert bad.problem is not None
    assert bad.probabilities is None
    assert good.problem is None
    with pytest.raises(BadPicture, match="found text"):
        print(bad.label)


def test_pictures_are_taken_one_at_a_time(loaded: graft.Model, digits: Path) -> None:
    """Of an endless list, no more is read than what is in flight: at most eight pictures a thread."""
    from graft.runtime.stream import cores

    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield digits / "0" / "00.png"

    said = iter(loaded.stream(endless()))
    for _ in range(20):
        next(said)
    assert 20 <= taken <= 20 + 8 * cores()


def test_verify_refuses_scores_that_are_not_reproduced(model: Path, tmp_path: Path) -> None:
    """Expected scores altered, and the hash of their file with them."""
    import hashlib

    assert graft.load(model).verify() < 1e-3
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    expected = json.loads((copy / "golden" / "expected.json").read_text())
    expected["0.png"] = expected["0.png"][::-1]
    data = json.dumps(expected).encode()
    (copy / "golden" / "expected.json").write_bytes(data)
    manifest = json.loads((copy / "model.json").read_text())
    manifest["files"]["golden/expected.json"] = hashlib.sha256(data).hexdigest()
    (copy / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(BadModel, match="gives other scores here"):
        graft.load(copy).verify()


def test_evaluation_of_a_model_whose_folder_lost_its_table_claims_nothing(
    model: Path, digits: Path, tmp_path: Path
) -> None:
    """Without samples.csv nobody knows what was trained on; such a folder is altered and refused."""
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    (copy / "samples.csv").unlink()
    with pytest.raises(BadModel, match=r"samples\.csv cannot be read"):
        evaluate.run(copy, digits)
