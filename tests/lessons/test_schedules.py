"""What `graft schedule` draws and prints: rates at known epochs, the files, and the messages for bad numbers."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.cli.texts import schedule as texts
from graft.errors import GraftError, UsageError
from graft.jobs.schedule import run
from graft.lessons import schedules as job
from graft.training.recipe.schedules import SCHEDULES


def test_a_curve_has_the_rates_of_the_formula() -> None:
    one = job.curve("cosine", epochs=4, rate=0.2)
    assert len(one.epochs) == len(one.rates) == 4 * job.STEPS_PER_EPOCH
    for epoch, rate in zip(one.epochs, one.rates, strict=True):
        assert rate == pytest.approx(0.1 * (1 + math.cos(math.pi * epoch / 4)))
    warm = job.curve("linear", epochs=4, warmup=1, rate=0.2)
    assert warm.rates[: job.STEPS_PER_EPOCH] == pytest.approx(
        [0.2 * (step + 1) / job.STEPS_PER_EPOCH for step in range(job.STEPS_PER_EPOCH)]
    )
    assert warm.rates[job.STEPS_PER_EPOCH] == 0.2


def test_plateau_is_cut_after_the_made_up_loss_has_stopped_for_more_than_three_epochs() -> None:
    """The loss falls in epochs 1–10; 11, 12, 13 and 14 bring nothing: epoch 15 is the first at a tenth."""
    losses = job.made_up_losses(30)
    assert losses[9] == losses[-1] < losses[8]
    rates = job.curve("plateau", epochs=30, rate=0.1).rates
    by_epoch = [rates[epoch * job.STEPS_PER_EPOCH] for epoch in range(30)]
    assert by_epoch == pytest.approx([0.1] * 14 + [0.01] * 4 + [1e-3] * 4 + [1e-4] * 4 + [1e-5] * 4)


def test_rows_say_formula_source_and_rates() -> None:
    lines = texts.as_text(run("linear", epochs=8, rate=0.1), alone=True).splitlines()
    assert lines[:3] == ["linear: a straight line down to 0", "α = α₀ (1 − t/T)", "source: the lectures"]
    table = [line.split() for line in lines if re.match(r" *[0-9]", line)]
    assert [row[:2] for row in table] == [
        ["0", "0.1"], ["1", "0.0875"], ["2", "0.075"], ["3", "0.0625"], ["4", "0.05"], ["5", "0.0375"],
        ["6", "0.025"], ["7", "0.0125"], ["7.98", "0.00025"],
    ]  # fmt: skip
    assert [len(row[2]) for row in table[:-1]] == [40, 35, 30, 25, 20, 15, 10, 5]


def test_a_spark_shows_the_course() -> None:
    assert texts.spark(tuple(range(1, 9)), 8) == "▁▂▃▄▅▆▇█"
    assert texts.spark((4.0, 4.0, 2.0, 2.0, 0.0, 0.0), 3) == "█▄ "
    assert texts.spark((1.0, 1.0), 24) == "██"


def test_a_bar_counts_eighths() -> None:
    assert texts.bar(1.0) == "█" * 40
    assert texts.bar(0.0) == ""
    assert texts.bar((8 * 3 + 5) / 320) == "███▋"


def test_without_a_name_all_are_listed_in_order() -> None:
    _, rule, *lines = texts.as_text(run(None), alone=False).splitlines()
    assert set(rule) == {"─"}
    assert [line.split()[0] for line in lines] == [schedule.name for schedule in SCHEDULES]
    assert all(line.endswith(schedule.summary) for line, schedule in zip(lines, SCHEDULES, strict=True))


def test_json_holds_the_curve() -> None:
    one = json.loads(texts.as_json(run("inverse", epochs=2, rate=0.5), alone=True))
    assert one["formula"] == "α = α₀ / (1 + epoch)"
    assert one["rates"][job.STEPS_PER_EPOCH] == 0.25
    every = json.loads(texts.as_json(run(None, epochs=1), alone=False))
    assert [each["name"] for each in every] == [schedule.name for schedule in SCHEDULES]


def test_pictures_are_written_the_same_each_time(tmp_path: Path) -> None:
    svg, png = tmp_path / "step.svg", tmp_path / "step.png"
    run("step", epochs=10, svg=svg, png=png)
    assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    pixels = np.asarray(Image.open(png).convert("RGB"))
    blue = np.all(np.abs(pixels.astype(int) - (0x00, 0x72, 0xB2)) < 12, axis=-1)  # (H, W): the line
    left, right = blue[:, : blue.shape[1] // 2], blue[:, blue.shape[1] // 2 :]
    assert left.sum() > 300
    assert right.sum() > 300
    first = svg.read_bytes(), png.read_bytes()
    run("step", epochs=10, svg=svg, png=png)
    assert (svg.read_bytes(), png.read_bytes()) == first


def test_the_page_of_all_has_a_panel_for_each(tmp_path: Path) -> None:
    run(None, epochs=3, svg=tmp_path / "all.svg")
    root = ET.parse(tmp_path / "all.svg").getroot()
    lines = [group for group in root.iter() if (group.get("id") or "").startswith("axes_")]
    filled = [group for group in lines if any((each.get("id") or "").startswith("line2d") for each in group.iter())]
    assert len(filled) == len(SCHEDULES)


@pytest.mark.parametrize(
    ("name", "epochs", "warmup", "rate", "message"),
    [
        ("cosin", 9, 0.0, 0.1, "no schedule 'cosin'"),
        ("cosine", 0, 0.0, 0.1, "--epochs must be from 1 to 10,000, got 0"),
        ("cosine", 10_001, 0.0, 0.1, "--epochs must be from 1 to 10,000, got 10001"),
        ("cosine", 9, 9.0, 0.1, "--warmup must be from 0 to below the 9 epochs of the run, got 9"),
        ("cosine", 9, math.nan, 0.1, "--warmup must be from 0 to below the 9 epochs of the run, got nan"),
        ("cosine", 1, 0.999, 0.1, "the warm-up must be shorter than the run of 50 steps, got 50"),
        ("cosine", 9, 0.0, -0.1, "--rate must be a number above 0, got -0.1"),
        ("cosine", 9, 0.0, math.inf, "--rate must be a number above 0, got inf"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(name: str, epochs: int, warmup: float, rate: float, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        job.curve(name, epochs=epochs, warmup=warmup, rate=rate)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("")
    with pytest.raises(GraftError, match=r"cannot write .*no/x\.svg: .*; choose another file"):
        run("cosine", svg=tmp_path / "no" / "x.svg")
