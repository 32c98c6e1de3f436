"""Each command as a user runs it, on a model of real digits."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command import SCRIPT

Graft = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A model that the test may alter."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_train_prints_why_this_strategy_then_the_score_and_where_it_lies(
    digits: Path, graft: Graft, tmp_path: Path
) -> None:
    ran = graft("train", digits, "--out", "new")
    assert ran.returncode == 0, ran.stderr
    said = json.loads((tmp_path / "new" / "model.json").read_text())
    table, measured, probes, decision = ran.stdout.split("\n\n")[:4]
    assert "[linear classifiers on earlier stages]" in table.splitlines()[1], "the cell of the table is marked"
    assert measured.startswith("64 training pictures of 4 classes\nlikeness to the source's pictures 0.")
    stages = [line.split()[0] for line in probes.splitlines()[1:]]
    assert stages[:9] == ["stem", *(f"blocks.{number}" for number in range(7)), "features"]
    assert decision.splitlines()[0] == f"Advice: {said['record']['advice']['decision']['words']}."
    assert decision.splitlines()[1:] == said["record"]["advice"]["reason"]
    score = ran.stdout.split("\n\n")[4]
    assert score.startswith(f"Right on {100 * said['test']['top1']['value']:.1f} % of 16 test pictures")
    assert "always saying '0' would be right on 25.0 %" in ran.stdout
    assert ran.stdout.endswith("Try it: graft predict new PICTURE\n")


def test_progress_is_plain_lines_where_there_is_no_terminal(digits: Path, graft: Graft) -> None:
    ran = graft("audit", digits)
    assert ran.stderr == "looking at pictures: 1/80\nlooking at pictures: 80/80\n"


def test_progress_is_a_bar_on_a_terminal(digits: Path, environment: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = (sys.executable, "-c", SCRIPT, "audit", str(digits))
    process = subprocess.Popen(
        command, env={**environment, "TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=theirs, cwd=tmp_path
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # how Linux says that the other side was closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"80/80" in shown
    assert "━".encode() in shown


def test_audit_finds_the_photos_that_stand_in_two_classes(data_kit: Callable[[str], Path], graft: Graft) -> None:
    """The three that the collection's description names; they are byte for byte the same files."""
    ran = graft("audit", data_kit("trashnet"), "--json", "--strict")
    findings = {finding["kind"]: finding for finding in json.loads(ran.stdout)["findings"]}
    torn = findings["two-labels-exact"]
    assert ran.returncode == 1
    assert torn["severity"] == "error"
    assert len(torn["items"]) == 3
    for item in torn["items"]:
        assert len({path.split("/")[0] for path in item["paths"]}) == 2


def test_audit_of_sound_digits_is_clean_even_when_strict(digits: Path, graft: Graft) -> None:
    assert graft("audit", digits).returncode == 0
    assert json.loads(graft("audit", digits, "--json").stdout)["counts"] == [20, 20, 20, 20]


def test_audit_with_a_model_lists_a_label_that_is_wrong(digits: Path, graft: Graft, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "photos")
    for number in ("03", "07", "11", "15", "19"):  # one of them at least is trained on
        (tmp_path / "photos" / "0" / f"{number}.png").rename(tmp_path / "photos" / "1" / f"zero-{number}.png")
    assert graft("train", "photos", "--out", "new").returncode == 0
    doubts = json.loads(graft("audit", "photos", "--model", "new", "--json").stdout)["doubts"]
    worst = [doubt["probability"] for doubt in doubts]
    assert worst == sorted(worst)
    assert any(d["path"].startswith("1/zero-") and (d["label"], d["predicted"]) == ("1", "0") for d in doubts)
    assert "labels that the model doubts most" in graft("audit", "photos", "--model", "new").stdout


def test_predict_takes_files_folders_and_patterns(model: Path, digits: Path, graft: Graft) -> None:
    one = graft("predict", model, digits / "0" / "00.png")
    assert one.returncode == 0
    assert one.stdout.startswith(f"{digits}/0/00.png: ")
    assert len(graft("predict", model, digits).stdout.splitlines()) == 80
    assert len(graft("predict", model, f"{digits}/*/0?.png", digits / "7" / "19.png").stdout.splitlines()) == 41


def test_predict_prints_an_object_a_line(model: Path, digits: Path, graft: Graft) -> None:
    lines = graft("predict", model, digits / "4", "--json", "--top", "4").stdout.splitlines()
    said = [json.loads(line) for line in lines]
    assert [Path(one["path"]).name for one in said] == [f"{n:02d}.png" for n in range(20)]
    for one in said:
        given = [each["probability"] for each in one["top"]]
        assert {each["class"] for each in one["top"]} == set("0147")
        assert given == sorted(given, reverse=True)
        assert sum(given) == pytest.approx(1, abs=1e-5)


def test_predict_goes_on_past_bad_pictures(model: Path, digits: Path, graft: Graft, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.jpg").write_text("no picture")
    shutil.copy(digits / "0" / "00.png", tmp_path / "mixed" / "b\nc.png")
    ran = graft("predict", model, "mixed")
    assert ran.returncode == 1
    assert ran.stdout.count("\n") == ran.stderr.count("\n") == 1
    assert ran.stdout.startswith(r"mixed/b\nc.png: ")
    assert ran.stderr.startswith("graft: mixed/a.jpg: ")
    table = graft("predict", model, "mixed", "--csv")
    bad, good = csv.DictReader(io.StringIO(table.stdout))
    assert (bad["path"], bad["class"]) == ("mixed/a.jpg", "")
    assert bad["problem"]
    assert (good["path"], good["rank"], good["problem"]) == ("mixed/b\nc.png", "1", "")


def test_predict_stops_quietly_when_nobody_reads_on(
    model: Path, digits: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = (sys.executable, "-c", SCRIPT, "predict", str(model), str(digits))
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline().endswith(" %\n")
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 1


def test_evaluate_on_the_test_pictures_gives_the_recorded_score_and_counts_the_look(
    copy: Path, digits: Path, graft: Graft, tmp_path: Path
) -> None:
    with (copy / "samples.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["part"] == "test":
                (tmp_path / "held" / row["label"]).mkdir(parents=True, exist_ok=True)
                shutil.copy(digits / row["path"], tmp_path / "held" / row["path"])
    said = json.loads(graft("evaluate", copy, "held", "--json").stdout)
    recorded = json.loads((copy / "model.json").read_text())
    assert said["top1"] == recorded["test"]["top1"]
    assert said["n"] == said["of_the_test_split"] == 16
    assert (said["trained_on"], said["looks"], recorded["looks"]) == (0, 2, 2)
    assert "used 2 times" in graft("info", copy).stdout


def test_evaluate_says_when_pictures_were_trained_on(copy: Path, digits: Path, graft: Graft) -> None:
    assert "careful: the model was trained on 64 of these pictures" in graft("evaluate", copy, digits).stdout


def test_evaluate_refuses_a_class_that_the_model_never_met(
    model: Path, digits: Path, graft: Graft, tmp_path: Path
) -> None:
    shutil.copytree(digits, tmp_path / "photos")
    (tmp_path / "photos" / "7").rename(tmp_path / "photos" / "seven")
    ran = graft("evaluate", model, "photos")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "classes that the model does not know (seven)" in ran.stderr


def test_info_says_what_the_manifest_says(model: Path, graft: Graft) -> None:
    assert json.loads(graft("info", model, "--json").stdout) == json.loads((model / "model.json").read_text())
    text = graft("info", model, "--verify").stdout
    assert "classes (4): 0, 1, 4, 7" in text
    assert text.endswith("golden pictures: reproduced\n")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.onnx", "report.html", "samples.csv", "golden/0.png", "golden/expected.json"]
)
def test_a_flipped_bit_in_any_file_is_refused(copy: Path, graft: Graft, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    ran = graft("info", copy)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert f"{name} has changed since it was written" in ran.stderr


@pytest.mark.parametrize(
    "arguments", ["--help", "train --help", "predict {model} {digits}/0/00.png", "train {digits} --out new"]
)
def test_torch_stays_out(model: Path, digits: Path, graft: Graft, arguments: str) -> None:
    """Help, prediction and training on a trunk that is in the cache."""
    tell = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    ran = graft(*arguments.format(model=model, digits=digits).split(), python=tell)
    assert ran.returncode == 0
    assert ran.stderr.splitlines()[-1] == "False"
