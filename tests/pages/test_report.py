"""The page read back as a reader's browser would: what it says, that it stands alone, and that it cannot be broken."""

from __future__ import annotations

import base64
import dataclasses
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from graft.evaluate.metrics import Scores, score
from graft.pages import report as page
from graft.pages.report import ClassCounts, Finding, PictureCard, Record, Report, Step

VOID = {"meta", "img", "br", "line", "rect", "circle", "polyline"}
HOSTILE = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Collects the tags, attributes and text of a page, and fails on one that is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in {"td", "th", "dt", "dd", "li"}:
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text.append(data)

    def said(self) -> str:
        """The text on one line, with plain spaces, as one reads it."""
        return " ".join("".join(self.text).replace("\N{NO-BREAK SPACE}", " ").replace("\N{WORD JOINER}", "").split())

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]


def jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120)).save(file, "JPEG", quality=80)
    return file.getvalue()


def scored(confusion: list[list[int]], names: tuple[str, ...]) -> Scores:
    """Scores whose confusion matrix is the one given; every answer is 80 % sure."""
    k = len(names)
    labels, answers = [], []
    for true, row in enumerate(confusion):
        for predicted, count in enumerate(row):
            labels += [true] * count
            answers += [predicted] * count
    probabilities = np.full((len(labels), k), 0.2 / (k - 1))
    probabilities[np.arange(len(labels)), answers] = 0.8
    majority = int(np.argmax(np.sum(confusion, 1)))
    return score(probabilities, np.array(labels), classes=names, majority=majority)


def report_on(scores: Scores, **changes: object) -> Report:
    report = Report(
        title="Leaves",
        made="2026-11-21",
        folder="leaves",
        network="lenet",
        strategy="linear probe",
        preprocessing="squashed to 32 × 32 pixels",
        counts=tuple(ClassCounts(c.name, 4 * c.n, c.n, c.n) for c in scores.per_class),
        scores=scores,
        record=Record((("graft", "0.1.0"),), "two cores", 7, "abcdef", 1),
    )
    return dataclasses.replace(report, **changes)


def read(report: Report) -> Page:
    return Page(page.render(report))


@pytest.fixture(scope="module")
def three() -> Scores:
    return scored([[40, 3, 2], [1, 28, 1], [0, 5, 20]], ("oak", "ash", "elm"))


def test_the_verdict_is_one_sentence_with_interval_and_baseline(three: Scores) -> None:
    """88 of 100, by hand: Wilson's interval is 0.8659 ± 0.0641."""
    sentence = "Right on 88.0 % of 100 test pictures (95 %: 80.2–93.0); always saying ‘oak’ would be right on 45.0 %."
    assert page.verdict(three) == sentence
    assert sentence in read(report_on(three)).said()


def test_a_difference_within_the_noise_is_called_that() -> None:
    luck = scored([[9, 2], [4, 5]], ("oak", "ash"))
    assert luck.gain.low < 0 < luck.gain.high
    assert "within the noise" in page.meaning(luck, 1)[0]


def test_worse_than_the_baseline_is_called_that() -> None:
    bad = scored([[2, 60], [20, 2]], ("oak", "ash"))
    assert bad.gain.high < 0
    assert "do not use it" in page.meaning(bad, 1)[0]


def test_further_looks_at_the_test_split_are_admitted(three: Scores) -> None:
    assert not any("scored" in sentence for sentence in page.meaning(three, 1))
    assert any("scored 3 times" in sentence for sentence in page.meaning(three, 3))


def test_near_duplicates_in_the_test_are_admitted() -> None:
    twice = dataclasses.replace(scored([[30, 2], [3, 25]], ("oak", "ash")), effective_n=41.0)
    assert any("as much as 41 independent ones" in sentence for sentence in page.meaning(twice, 1))


def test_the_matrix_holds_the_counts_in_order(three: Scores) -> None:
    cells = [a for tag, a in read(report_on(three)).tags if tag == "td" and "--heat" in (a.get("style") or "")]
    told = [a["title"] or "" for a in cells]
    assert len(told) == 9
    assert told[0].startswith("oak, called oak: 40 of 45, 88.9 %")
    assert told[7].startswith("elm, called ash: 5 of 25, 20.0 %")
    assert told[6] == "elm, called oak: 0 of 25"
    assert cells[7]["style"] == "--heat:0.51"  # 0.12 + 0.88 · sqrt(5/25)
    assert [a["class"] for a in cells[:3]] == ["hit deep", "miss", "miss"]


def test_pairs_are_listed_by_count_and_then_by_share(three: Scores) -> None:
    pairs = [(p.true, p.predicted, p.count, p.n) for p in page.confused_pairs(three, most=4)]
    assert pairs == [("elm", "ash", 5, 25), ("oak", "ash", 3, 45), ("oak", "elm", 2, 45), ("ash", "oak", 1, 30)]


def test_the_page_stands_alone_and_runs_nothing(three: Scores) -> None:
    card = PictureCard(jpeg(), "oak", "ash", 0.97, "oak/1.jpg")
    html = page.render(report_on(three, mistakes=(card,), doubted=(card,)))
    tags = Page(html).tags
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in tags}
    assert "url(" not in html
    assert "@import" not in html
    for _, attrs in tags:
        assert not any(name.startswith("on") or name in {"href", "srcset", "xlink:href"} for name in attrs)
    sources = [attrs["src"] or "" for _, attrs in tags if "src" in attrs]
    assert len(sources) == 2
    head, _, body = sources[0].partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(body) == card.jpeg
    policy = next(a["content"] or "" for tag, a in tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_names_from_outside_stay_text() -> None:
    """Every string that a folder, a file or an option can set, at once."""
    scores = scored([[8, 2], [1, 9]], (HOSTILE, "🐈"))
    card = PictureCard(jpeg(), HOSTILE, HOSTILE, 0.9, HOSTILE + "/\udcff\n.jpg")
    report = report_on(
        scores,
        title=HOSTILE,
        made=HOSTILE,
        folder=HOSTILE,
        network=HOSTILE,
        strategy=HOSTILE,
        preprocessing=HOSTILE,
        record=Record(((HOSTILE, HOSTILE),), HOSTILE, 0, HOSTILE, 1),
        findings=(Finding("note", HOSTILE, 3, (HOSTILE,)),),
        mistakes=(card,),
        doubted=(card,),
        steps=(Step(HOSTILE, 1.0),),
    )
    html = page.render(report)
    assert "<script" not in html
    tags = Page(html).tags
    assert not any(name.startswith("on") for _, attrs in tags for name in attrs)
    assert HOSTILE in [attrs.get("title") for _, attrs in tags]
    text = Page(html).said()
    assert "🐈" in text
    assert text.count(HOSTILE) > 12
    assert r"/\udcff\n.jpg" in text
    html.encode("utf-8")


def test_no_mistakes_no_findings_nothing_to_time() -> None:
    text = read(report_on(scored([[20, 0], [0, 20]], ("oak", "ash")))).said()
    assert "Right on 100.0 % of 40 test pictures (95 %: 91.2–100.0)" in text
    assert "No test picture was mistaken." in text
    assert "Nothing amiss." in text
    assert "Where the time went" not in text
    assert "among the first five" not in text


def test_a_thousand_classes_give_a_list_and_not_a_matrix() -> None:
    k = 1000
    confusion = np.eye(k, dtype=int) * 3
    confusion[17, 4] = 2
    found = read(report_on(scored(confusion.tolist(), tuple(f"class {i}" for i in range(k)))))
    assert found.with_class("matrix") == []
    text = found.said()
    assert "class 17 → class 4 40.0 % 11.8–76.9 2 of 5" in text
    assert "The 30 classes of 1,000 that are found least often" in text
    assert "All 1,000 classes" in text


def test_thirty_classes_give_a_matrix() -> None:
    found = read(report_on(scored(np.eye(30, dtype=int).tolist(), tuple(f"class {i}" for i in range(30)))))
    assert len(found.with_class("matrix")) == 1
    assert len(found.with_class("hit")) - len(found.with_class("swatch")) == 30 + 31  # cells; bars and the gauge


def test_the_score_without_leaks_is_the_one_to_quote(three: Scores) -> None:
    clean = scored([[36, 3, 2], [1, 26, 1], [0, 5, 18]], ("oak", "ash", "elm"))
    text = read(report_on(three, without_leaks=clean)).said()
    assert "Without the 8 test pictures that have a near-duplicate in training: 87.0 % (78.6–92.4) of 92." in text


def test_time_is_told_as_a_multiple_of_the_limit(three: Scores) -> None:
    steps = (Step("decode", 12.0), Step("features", 24.0), Step("head", 0.5))
    found = read(report_on(three, steps=steps, limit_seconds=14.6))
    assert "36 s in all, 2.5 times the limit of 15 s" in found.said()
    assert found.with_class("limit")[0]["style"] == "width:40.0%"
    widths = [float(a["width"] or 0) for tag, a in found.tags if tag == "rect" and "part-" in (a.get("class") or "")]
    assert widths == pytest.approx([1000 * 12 / 36.5, 1000 * 24 / 36.5, 1000 * 0.5 / 36.5], abs=0.01)


def test_steps_past_the_colours_are_put_together() -> None:
    steps = tuple(Step(f"step {i}", float(i)) for i in range(1, 11))
    merged = page.merged_steps(steps)
    assert [s.name for s in merged] == [f"step {i}" for i in range(4, 11)] + ["everything else"]
    assert merged[-1].seconds == 6.0
    assert page.merged_steps(steps[:8]) == steps[:8]
