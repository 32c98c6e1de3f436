"""The lectures' table, what measurement makes of it, and what trials make of both."""

from __future__ import annotations

import json

import numpy as np
import pytest

from graft.features.likeness import Likeness
from graft.heads.stage_probes import StageScore
from graft.strategy.advice import TABLE, Strategy, Trial, advise, cell, weigh

STAGES = ("a", "b", "c", "d", "e", "f")
LIKE, UNLIKE = Likeness(0.8, 0.75, 0.85, 100), Likeness(0.2, 0.15, 0.25, 100)


def score(reads: tuple[str, ...], right: int, of: int = 200) -> StageScore:
    """A score that is right on the first `right` of its rows, the more the less its log loss."""
    share = right / of
    return StageScore(
        reads, 10, share, share - 0.05, share + 0.05, 1 - share, 1.0, np.arange(of) < right, np.arange(of)
    )


def curve(*right: int, several: int = 0) -> tuple[StageScore, ...]:
    """Scores of the stages and the features, and of all of them together."""
    names = (*STAGES, "features")
    return (*(score((n,), r) for n, r in zip(names, right, strict=True)), score(names, several))


RISING = curve(60, 80, 100, 120, 140, 160, 180, several=165)
FLAT_FROM_C = curve(60, 80, 179, 178, 180, 179, 180, several=181)
FALLING = curve(60, 120, 190, 180, 150, 120, 100, several=175)


def test_the_table_is_the_lectures() -> None:
    assert {(one.amount, one.column): one.words for one in TABLE} == {
        ("little", "similar"): "linear classifier on the top layer",
        ("little", "different"): "linear classifiers on earlier stages",
        ("quite a lot", "similar"): "fine-tune a few layers",
        ("quite a lot", "different"): "fine-tune more layers",
        ("a million", "similar"): "(nothing; we fine-tune all layers)",
        ("a million", "different"): "train from scratch",
    }


@pytest.mark.parametrize(
    ("pictures", "like", "advised"),
    [
        (10, LIKE, "probe the top"),
        (499, LIKE, "probe the top"),
        (500, LIKE, "fine-tune a few"),
        (499, UNLIKE, "probe earlier stages"),
        (999_999, UNLIKE, "fine-tune more"),
        (1_000_000, UNLIKE, "scratch"),
        (1_000_000, LIKE, "fine-tune all"),
        (100, Likeness(0.46, 0.4, 0.5, 100), "probe the top"),
        (100, Likeness(0.44, 0.4, 0.5, 100), "probe earlier stages"),
    ],
)
def test_the_cell_follows_from_amount_and_likeness(pictures: int, like: Likeness, advised: str) -> None:
    assert cell(pictures, like).advised == advised


def test_little_and_similar_data_gets_the_top_where_the_probes_agree_beyond_noise() -> None:
    agreed = advise([50, 50], LIKE, RISING, STAGES)
    assert agreed.by_table == agreed.by_evidence == agreed.decision == Strategy("probe", ("features",))
    against = advise([50, 50], LIKE, FALLING, STAGES)
    assert against.by_table == Strategy("probe", ("features",))
    assert against.by_evidence == against.decision == against.probe == Strategy("probe", ("c",))
    # c is right on 90 more of 200 than the top: 45 points
    assert "c is right on 95.0 %" in against.reason[-1]
    assert "+45.0 points" in against.reason[-1]
    assert against.reason[-1].endswith("measurement wins.")


def test_little_and_different_data_gets_the_best_earlier_stage_or_several_together() -> None:
    assert advise([50, 50], UNLIKE, FALLING, STAGES).decision == Strategy("probe", ("c",))
    together = curve(60, 80, 100, 100, 90, 80, 70, several=160)
    assert advise([50, 50], UNLIKE, together, STAGES).decision.reads == (*STAGES, "features")


def test_several_stages_together_stay_where_a_single_one_is_better_within_noise() -> None:
    close = curve(60, 80, 100, 120, 140, 160, 180, several=178)  # 2 of 200: Tango's interval has 0 in it
    found = advise([50, 50], LIKE, close, STAGES)
    assert found.decision.reads == (*STAGES, "features")
    assert "-1.0 points" in found.reason[-1]
    assert found.reason[-1].endswith("within noise, and where that is so, several stages together are taken.")
    above = advise([50, 50], LIKE, curve(60, 80, 100, 120, 140, 160, 150, several=180), STAGES)
    assert above.reason[-1].endswith("measurement wins.")


def test_fine_tuning_begins_where_probes_level_off() -> None:
    few = advise([2000, 2000], LIKE, RISING, STAGES)
    assert (few.decision, few.by_table) == (Strategy("finetune", cut="f"), Strategy("finetune", cut="e"))
    assert "not at e as a rule of thumb" in few.reason[1]
    bounded = advise([2000, 2000], LIKE, FLAT_FROM_C, STAGES)  # a few layers are at most half of them
    assert bounded.decision == Strategy("finetune", cut="d")
    assert advise([2000, 2000], UNLIKE, FLAT_FROM_C, STAGES).decision == Strategy("finetune", cut="c")
    assert advise([2000, 2000], UNLIKE, RISING, STAGES).decision == Strategy("finetune", cut="c")  # two thirds
    assert few.probe == Strategy("probe", ("features",))


def test_a_million_pictures() -> None:
    assert advise([600_000] * 2, UNLIKE, RISING, STAGES).decision == Strategy("scratch")
    assert advise([600_000] * 2, LIKE, RISING, STAGES).decision == Strategy("finetune")


def test_what_lies_in_between_says_so() -> None:
    between = advise([50, 50], Likeness(0.5, 0.4, 0.6, 100), RISING, STAGES)
    assert between.reason[1] == "The likeness lies in between; it counts as similar."


def test_lines_mark_the_cell_and_the_head_to_take() -> None:
    lines = advise([50, 50], UNLIKE, FALLING, STAGES).lines()
    assert [line.count("[") for line in lines[:4]] == [0, 1, 0, 0]
    assert lines[1].endswith("[linear classifiers on earlier stages]")
    assert [line.split()[0] for line in lines if line.endswith("←")] == ["c"]
    assert "Advice: probe: a new head on the earlier stage c." in lines


def test_as_json_it_says_all_of_it() -> None:
    said = json.loads(json.dumps(advise([50, 70], UNLIKE, FALLING, STAGES).to_json()))
    assert (said["pictures"], said["classes"]) == (120, 2)
    assert said["likeness"] == {"value": 0.2, "low": 0.15, "high": 0.25, "pictures": 100, "word": "unlike"}
    assert said["cell"]["advised"] == "probe earlier stages"
    assert [stage["accuracy"] for stage in said["stages"]] == [one.accuracy for one in FALLING]
    assert said["decision"]["reads"] == ["c"]


def trial(strategy: Strategy, right: range, seconds: float, of: int = 400) -> Trial:
    mask = np.zeros(of, bool)
    mask[right] = True
    return Trial(strategy, mask, seconds)


PROBE, FINETUNE, ALL = Strategy("probe", ("features",)), Strategy("finetune", cut="e"), Strategy("finetune")


def test_a_costlier_strategy_within_noise_loses_to_the_cheaper() -> None:
    advice = advise([2000, 2000], LIKE, RISING, STAGES)
    # 6 of 400 only fine-tuning gets right, 2 only the probe: +1.0 point, Tango −0.5 to +2.8
    found = weigh(advice, [trial(PROBE, range(352), 10), trial(FINETUNE, range(2, 358), 120)])
    assert found.decision == found.by_evidence == PROBE
    assert found.by_table == advice.by_table
    assert "within noise, and is the cheaper" in " ".join(found.reason)
    assert found.reason[-1].startswith("The table says otherwise (fine-tune from e up); measurement wins.")
    assert found.reason[: len(advice.reason)] == advice.reason


def test_a_costlier_strategy_beyond_noise_wins_and_the_cheapest_of_those_is_taken() -> None:
    advice = advise([2000, 2000], LIKE, RISING, STAGES)
    trials = [trial(ALL, range(381), 900), trial(PROBE, range(352), 10), trial(FINETUNE, range(380), 120)]
    found = weigh(advice, trials)
    assert found.decision == FINETUNE
    assert "88.0 % in 10 s" in " ".join(found.reason)


def test_near_duplicates_make_a_difference_less_certain() -> None:
    advice = advise([2000, 2000], LIKE, RISING, STAGES)
    trials = [trial(PROBE, range(352), 10), trial(FINETUNE, range(360), 120)]  # 8 pictures, all of one group
    assert weigh(advice, trials).decision == FINETUNE
    assert weigh(advice, trials, groups=np.arange(400) // 8).decision == PROBE


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (PROBE, "probe: a new head on the top features"),
        (Strategy("probe", ("a", "b")), "probe: a new head on 2 stages together, a to b"),
        (FINETUNE, "fine-tune from e up"),
        (ALL, "fine-tune all of the network"),
        (Strategy("scratch"), "train from scratch"),
    ],
)
def test_strategies_in_words(strategy: Strategy, words: str) -> None:
    assert strategy.words == words
