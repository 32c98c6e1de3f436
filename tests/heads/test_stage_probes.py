"""Probes of stages on features drawn so that one knows where the classes can be told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.ladders import features_of, trunk_of
from graft.evaluate.intervals import wilson
from graft.heads import stage_probes
from graft.heads.probe import cross_validate, fit_probe
from graft.heads.stage_probes import StageScore, best, levelling_off, probe_stages, steadiest

COUNT = 240
LABELS = np.arange(COUNT) % 3
GROUPS = np.arange(COUNT)
FOLD = np.arange(COUNT) // 3 % 4


def stage(width: int, signal: float, seed: int, classes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """(COUNT, width) noise about class means `signal` apart; classes not named share one mean."""
    draw = np.random.default_rng(seed)
    means = np.zeros((3, width))
    means[list(classes)] = signal * draw.normal(size=(len(classes), width))
    return means[LABELS] + draw.normal(size=(COUNT, width))


def probed(tmp_path: Path, reads: dict[str, np.ndarray]) -> dict[str, StageScore]:
    trunk = trunk_of(tmp_path, {name: output.shape[1] for name, output in reads.items()})
    features = features_of(tmp_path / "store", list(reads.values()))
    scores = probe_stages(features, trunk, np.arange(COUNT), LABELS, GROUPS, FOLD, num_classes=3)
    return {score.stage: score for score in scores}


def test_an_outputs_score_is_that_of_a_probe_on_it_alone(tmp_path: Path) -> None:
    low, top = stage(6, 0.4, 1), stage(10, 0.6, 2)
    found = probed(tmp_path, {"low": low, "features": top})
    assert list(found) == ["low", "features", "low … features"]
    given = top.astype(np.float16).astype(np.float32)
    alone = fit_probe(
        stage_probes.Rows(COUNT, 10, lambda part: given[part]), LABELS.astype(np.int64), FOLD, num_classes=3
    )
    right = alone.held_out.argmax(axis=1) == LABELS
    score = found["features"]
    np.testing.assert_array_equal(score.right, right)
    assert (score.width, score.strength) == (10, alone.strength)
    assert score.accuracy == right.mean()
    assert (score.low, score.high) == pytest.approx([float(v) for v in wilson(right.mean(), COUNT)])
    assert score.log_loss == min(trial.log_loss for trial in alone.trials)


def test_the_stage_that_tells_the_classes_apart_wins_over_a_top_that_forgot_them(tmp_path: Path) -> None:
    found = probed(tmp_path, {"low": stage(8, 0.1, 1), "middle": stage(8, 1.2, 2), "features": stage(8, 0.1, 3)})
    scores = tuple(found.values())
    assert best(scores).stage in ("middle", "low … middle", "low … features")
    assert steadiest(scores).reads == ("low", "middle")
    assert steadiest([s for s in scores if len(s.reads) == 1]).reads == ("middle",)
    assert levelling_off(scores) == "middle"
    assert found["middle"].beyond_noise(found["features"])


def test_several_stages_win_where_each_knows_a_class_of_its_own(tmp_path: Path) -> None:
    reads = {
        "low": stage(8, 1.5, 1, classes=(0,)),
        "middle": stage(8, 1.5, 2, classes=(1,)),
        "features": stage(8, 0.05, 3),
    }
    found = probed(tmp_path, reads)
    assert steadiest(tuple(found.values())).reads == ("low", "middle")
    assert all(found["low … middle"].beyond_noise(found[one]) for one in reads)


def test_a_stage_that_equals_the_features_is_left_out_and_a_stage_of_other_numbers_is_not(tmp_path: Path) -> None:
    top = stage(8, 0.5, 1)
    found = probed(tmp_path, {"low": stage(8, 0.5, 2), "pooled": top, "features": top})
    assert list(found) == ["low", "features", "low … features"]


def test_outputs_too_much_work_together_are_not_tried_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_probes, "_MOST_WORK", 17 * 17 * len(LABELS))
    found = probed(tmp_path, {"a": stage(8, 0.5, 1), "b": stage(8, 0.5, 2), "features": stage(8, 0.5, 3)})
    assert list(found) == ["a", "b", "features", "a … b"]


def test_what_is_too_large_to_cross_validate_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow_only(rows: stage_probes.Rows, *given: object, **more: object) -> object:
        probe = cross_validate(rows, *given, **more)  # type: ignore[arg-type]
        return replace(probe, held_out=np.full_like(probe.held_out, np.nan)) if rows.width > 8 else probe

    monkeypatch.setattr(stage_probes, "cross_validate", narrow_only)
    found = probed(tmp_path, {"low": stage(8, 0.5, 1), "features": stage(8, 0.9, 2)})
    assert list(found) == ["low", "features"]


def made(reads: tuple[str, ...], right: int, of: int = 100, log_loss: float = 0.5) -> StageScore:
    """A score that is right on the first `right` of its rows."""
    mask = np.arange(of) < right
    return StageScore(reads, 1, right / of, 0, 1, log_loss, 1.0, mask, np.arange(of))


def test_noise_is_mcnemars_table() -> None:
    # 9 rows on which only one is right, of 100: Tango's interval is 4.8–16.2 points; of 3: 0–8.5, and so within noise
    assert made(("a",), 69).beyond_noise(made(("b",), 60))
    assert not made(("a",), 63).beyond_noise(made(("b",), 60))


def test_several_stages_stay_unless_they_are_beaten_beyond_noise() -> None:
    low, features, both = made(("low",), 61), made(("features",), 62), made(("low", "features"), 60)
    assert steadiest([low, features, both]).reads == ("low", "features")
    assert steadiest([low, features, both, made(("low", "middle"), 60), made(("a", "b", "c"), 63)]).reads == both.reads
    assert steadiest([low, features, both, made(("middle",), 80)]).reads == ("middle",)


def test_of_single_stages_the_expected_one_stays_unless_it_is_beaten_beyond_noise() -> None:
    scores = [made(("low",), 60), made(("features",), 61)]
    assert steadiest(scores).reads == ("features",)
    assert steadiest(scores, ("low",)).reads == ("low",)
    scores.append(made(("middle",), 80))
    assert steadiest(scores).reads == steadiest(scores, ("low",)).reads == ("middle",)


def test_levelling_off_is_where_later_stages_gain_nothing() -> None:
    scores = [made((name,), right) for name, right in (("a", 40), ("b", 55), ("c", 78), ("d", 80), ("features", 79))]
    assert levelling_off([*scores, made(("a", "d"), 95)]) == "c"


def test_a_large_set_is_probed_on_an_even_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_probes, "_MOST_ROWS", 90)
    found = probed(tmp_path, {"low": stage(6, 1.0, 1), "features": stage(6, 1.0, 2)})
    assert {len(score.right) for score in found.values()} == {90}
    assert found["features"].accuracy > 0.6
