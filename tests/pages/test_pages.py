"""What holds for every page: it stands alone, text from outside stays text, and it can be read on a phone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graft.analysis.drawing.draw import as_svg
from graft.analysis.table import PICTURE, Analysis, Layer
from graft.evaluate.intervals import Interval
from graft.features.likeness import Likeness
from graft.features.nearest import Precision
from graft.features.search import Found, Match, Quality, Ranking, Space
from graft.heads.stage_probes import StageScore
from graft.lessons.playground.gallery import Picture
from graft.pages import report
from graft.pages.advice import advice_page
from graft.pages.analysis import analysis_page
from graft.pages.augment import Row, as_html
from graft.pages.curves import Drawn, curves_html
from graft.pages.page import duration
from graft.pages.playground import playground_page
from graft.pages.search import search_page
from graft.strategy.advice import TABLE, Advice, Strategy
from graft.training.checks.curves import Finding
from pages.test_report import HOSTILE, Page, jpeg, report_on, scored
from training.checks.drawn_curves import KINDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LONG = f"{HOSTILE} {'long' * 30}"


def advice() -> Advice:
    right = np.array([True, False])
    score = StageScore(("features",), 1280, 0.5, 0.1, 0.9, 0.7, 1.0, right, right.astype(np.int64))
    other = dataclasses.replace(score, reads=(HOSTILE, LONG))
    probe = Strategy("probe", ("features",))
    like = Likeness(0.2, 0.1, 0.3, 100)
    return Advice(80, 4, like, TABLE[1], (score, other), probe, probe, probe, probe, (HOSTILE, LONG))


def of_report() -> str:
    card = report.PictureCard(jpeg(), LONG, HOSTILE, 0.9, LONG)
    history = KINDS["overfitting"](1)
    return report.render(
        report_on(
            scored([[8, 2], [1, 9]], (HOSTILE, LONG)),
            title=LONG,
            folder=LONG,
            network=HOSTILE,
            findings=(report.Finding("note", LONG, 3, (LONG,)),),
            mistakes=(card,),
            steps=(report.Step(HOSTILE, 1.0),),
            advice=advice(),
            curves=_curves([Drawn("this run", history, ())]),
        )
    )


def _curves(runs: list[Drawn]) -> str:
    from graft.pages.curves import curves_svg

    return curves_svg(runs)


def of_curves() -> str:
    finding = Finding("overfitting", "warning", LONG, HOSTILE)
    return curves_html([Drawn(HOSTILE, KINDS["overfitting"](1), (finding,)), Drawn(LONG, KINDS["healthy"](1), ())])


def of_augment() -> str:
    pixels = np.zeros((300, 500, 3), np.uint8)
    return as_html([Row(HOSTILE, LONG, (pixels, pixels))], LONG).decode()


def of_search() -> str:
    space = Space(HOSTILE, slice(0, 3), "l2")
    matches = (Match(f"/gone/{LONG}", HOSTILE, 0.25), Match("/gone/2.jpg", None, 1.5))
    precision = (Precision(1, Interval(0.5, 0.1, 0.9)), Precision(10, Interval(0.5, 0.1, 0.9)))
    quality = Quality(20, 0.25, ((space, precision),))
    return search_page(
        Found(f"/gone/{HOSTILE}", HOSTILE, "/gone", 9, (HOSTILE,), LONG, (Ranking(space, matches),), quality, ())
    )


def of_analysis() -> str:
    layers = (Layer(HOSTILE, LONG, (PICTURE,), (3, 4, 4), (3, 4, 4), activation_bytes=4),)
    return analysis_page(HOSTILE, [as_svg(Analysis(LONG, (3, 4, 4), layers))] * 2)


def of_playground() -> str:
    return playground_page([Picture("x.png", HOSTILE, LONG, b"\x89PNG")])


MADE: dict[str, Callable[[], str]] = {
    "report": of_report,
    "advice": lambda: advice_page(advice(), folder=LONG, network=HOSTILE),
    "curves": of_curves,
    "augment": of_augment,
    "search": of_search,
    "analysis": of_analysis,
    "playground": of_playground,
}
SCRIPTS = {"analysis": 1}


@pytest.mark.parametrize("name", MADE)
def test_it_stands_alone(name: str) -> None:
    html = MADE[name]()
    drawn = re.sub(r"<metadata>.*?</metadata>|<\?xml[^>]*>|<!DOCTYPE svg[^>]*>", "", html, flags=re.DOTALL)
    assert not re.search(r"url\((?!#)|@import", drawn)
    assert not re.search(r'\b(?:src|srcset)="(?!data:)|\bhref="(?!#)', drawn)
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", drawn)
    assert "loading=" not in html  # a page that is printed needs its pictures at once


@pytest.mark.parametrize("name", MADE)
def test_text_from_outside_stays_text(name: str) -> None:
    html = MADE[name]()
    assert html.count("<script") == SCRIPTS.get(name, 0)
    assert "&lt;script&gt;" in html
    assert not re.search(r"<[^>]*\son\w+=", html)


@pytest.mark.parametrize("name", MADE)
def test_it_has_the_head_of_every_page(name: str) -> None:
    html = MADE[name]()
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    tags = Page(re.sub(r"<(defs|svg|script).*?</\1>", "", html, flags=re.DOTALL)).tags
    metas: dict[str, str] = {}
    for tag, attrs in tags:
        if tag == "meta" and (attrs.get("name") or attrs.get("http-equiv")):
            metas[attrs.get("name") or attrs.get("http-equiv") or ""] = attrs.get("content") or ""
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"
    policy = metas["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert ("script-src 'sha256-" in policy) == (name in SCRIPTS)
    assert [tag for tag, _ in tags].count("main") == 1
    assert [tag for tag, _ in tags].count("h1") == 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_a_phone_shows_it_whole(browser: Browser, tmp_path: Path, name: str, dark: bool) -> None:
    """400 pixels wide, nothing is cut off, asked for elsewhere or refused; the paper follows the reader's scheme."""
    (tmp_path / "page.html").write_text(MADE[name](), encoding="utf-8")
    view = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark" if dark else "light")
    asked: list[Any] = []
    wrong: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: wrong.append(message.text))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.goto((tmp_path / "page.html").as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") <= 400
    paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (not dark)
    view.close()
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]
    assert wrong == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.042, "0.042 s"), (3.44, "3.4 s"), (36.4, "36 s"), (59.7, "1 min 0 s"), (258, "4 min 18 s"),
        (7530, "2 h 5 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
