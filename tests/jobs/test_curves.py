"""`graft curves` from Python: words, JSON, and pictures of runs that were drawn and of runs that cannot be read."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from graft.cli.texts.curves import as_json, as_text
from graft.errors import BadModel, GraftError, UsageError
from graft.jobs import curves as job
from graft.training.loop.history import History, line_of
from training.checks.drawn_curves import KINDS

SEED = 5000


def written(folder: Path, history: History) -> Path:
    """A run's folder with its history, as the loop writes it."""
    folder.mkdir()
    events = sorted((*history.steps, *history.epochs), key=lambda event: (event.step, event.kind == "epoch"))
    lines = [history.start, *events, *([history.end] if history.end else [])]
    text = "".join(json.dumps(line_of(line)).replace("NaN", "null") + "\n" for line in lines)
    (folder / "history.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    kinds = ("overfitting", "plateau", "rate too high")
    return [written(tmp_path / kind.replace(" ", "-"), KINDS[kind](SEED)) for kind in kinds]


def test_words_give_each_run_its_verdict_evidence_and_advice(runs: list[Path]) -> None:
    paragraphs = as_text(job.run(runs)).split("\n\n")
    assert [paragraph.split(": ")[0] for paragraph in paragraphs] == [str(run) for run in runs]
    history = KINDS["overfitting"](SEED)
    best = max(epoch.val.accuracy for epoch in history.epochs if epoch.val)
    head, finding, advice = paragraphs[0].splitlines()
    assert f"{len(history.epochs)} epochs, best validation accuracy {100 * best:.1f} % in epoch" in head
    assert head.endswith("ended (epochs)")
    assert re.match(r"  warning  overfitting: right on \d+\.\d % of the training pictures", finding)
    assert advice.strip().startswith("what to do: more pictures")


def test_a_run_at_work_is_said_to_be_one(tmp_path: Path) -> None:
    history = KINDS["healthy"](SEED)
    folder = written(tmp_path / "run", dataclasses.replace(history, epochs=history.epochs[:1], end=None))
    assert "1 epoch, best" in as_text(job.run([folder]))
    assert "not ended: still at work, or killed" in as_text(job.run([folder]))


def test_json_is_strict_and_has_every_finding(runs: list[Path]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    said = json.loads(as_json(job.run(runs)), parse_constant=refuse)
    assert [one["run"] for one in said] == [str(run) for run in runs]
    assert [[finding["name"] for finding in one["findings"]] for one in said] == (
        [["overfitting"], ["plateau"], ["rate too high"]]
    )
    assert set(said[0]["findings"][0]) == {"name", "severity", "evidence", "advice"}
    last = KINDS["overfitting"](SEED).epochs[-1]
    assert (said[0]["epochs"], said[0]["train_accuracy"]) == (last.epoch, last.train.accuracy)


def test_from_python_a_run_is_a_folder_or_its_file(runs: list[Path]) -> None:
    (finding,) = job.curves(runs[1])
    assert finding.name == "plateau"
    assert job.curves(str(runs[1] / "history.jsonl")) == (finding,)


def test_svg_shows_every_point_of_every_run_and_is_the_same_each_time(runs: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    drawn = job.run(runs, first)
    job.run(runs, second)
    assert first.read_bytes() == second.read_bytes()
    root = ET.fromstring(first.read_text(encoding="utf-8"))
    texts = {"".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"loss", "accuracy, %", "rate", "epoch", "training", "validation"} <= texts
    for kind in ("overfitting", "plateau", "rate too high"):
        assert any(text.endswith(f": {kind}") for text in texts), texts
    markers = sum(group.get("id", "").startswith("PathCollection") for group in root.iter())
    assert markers == 4 * len(drawn), "loss and accuracy, of training and validation"
    points = len(list(root.iter("{http://www.w3.org/2000/svg}use")))
    assert points >= sum(len(one.history.steps) for one in drawn[:2])


def test_where_a_loss_overflowed_is_marked(tmp_path: Path) -> None:
    seed = next(seed for seed in range(100) if KINDS["rate too high"](seed).end.why == "not finite")  # type: ignore[union-attr]
    folder = written(tmp_path / "run", KINDS["rate too high"](seed))
    job.run([folder], tmp_path / "curves.svg")
    assert ">not finite</text>" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_png_is_a_picture_with_both_runs_in_colours_of_their_own(runs: list[Path], tmp_path: Path) -> None:
    job.run(runs[:2], tmp_path / "curves.PNG")
    picture = Image.open(io.BytesIO((tmp_path / "curves.PNG").read_bytes())).convert("RGB")
    assert picture.width == 1200
    counts = {colour: n for n, colour in picture.getcolors(maxcolors=1 << 20) or []}
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert counts[colour] > 1000


@pytest.mark.parametrize("name", ["<b>& $x_1^{$", "_hidden", "図", "x" * 200])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    folder = written(tmp_path / name, KINDS["healthy"](SEED))
    job.run([folder], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', "", page, flags=re.DOTALL)
    assert "<strong>healthy</strong>: the loss fell from" in page
    assert "<script" not in page


def test_a_run_that_has_only_begun_is_drawn_too(tmp_path: Path) -> None:
    history = KINDS["healthy"](SEED)
    for steps in (0, 1, 3):
        begun = dataclasses.replace(history, steps=history.steps[:steps], epochs=(), end=None)
        folder = written(tmp_path / f"run{steps}", begun)
        (one,) = job.run([folder], tmp_path / "curves.svg")
        assert one.findings[0].name == "too early to tell"
        ET.fromstring((tmp_path / "curves.svg").read_text(encoding="utf-8"))


def test_what_is_no_run_or_no_picture_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg, \.png or \.html, got .*; did you mean '\.png'"):
        job.run(runs, tmp_path / "curves.pngg")
    with pytest.raises(UsageError, match="must end in"):
        job.run(runs, tmp_path / "curves")
    with pytest.raises(BadModel, match="there is no"):
        job.run([*runs, tmp_path / "nowhere"], tmp_path / "curves.svg")
    assert not (tmp_path / "curves.svg").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(GraftError, match="cannot write"):
        job.run(runs, tmp_path / "file" / "curves.svg")


def test_a_model_of_a_probe_has_no_curves(model: Path) -> None:
    with pytest.raises(BadModel, match="was not trained by the loop") as caught:
        job.run([model])
    assert "\n" not in str(caught.value)
