"""The pictures in Chromium, as a reader sees and points at them: rows light up with their nodes, pages zoom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graft.jobs.analyze import run_analyze

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BLUE, UNLIT = "rgb(0, 114, 178)", "rgba(0, 0, 0, 0)"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.svg and net.html, of ResNet-18."""
    folder = tmp_path_factory.mktemp("pictures")
    run_analyze("resnet18", svg=folder / "net.svg", html=folder / "net.html")
    return folder


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page, 1400×900; fails if what it shows asks for another file or logs an error."""
    view = browser.new_page(viewport={"width": 1400, "height": 900})
    asked: list[str] = []
    wrong: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: wrong.append(message.text))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    yield view
    view.close()
    assert (len(asked), wrong) == (1, [])


def lit(page: Page) -> list[str]:
    """The rows whose band across the table is coloured."""
    return page.eval_on_selector_all(
        ".row",
        f"rows => rows.filter(row => getComputedStyle(row.querySelector('.lit')).fill === '{BLUE}')"
        ".map(row => row.dataset.row)",
    )


def outlined(page: Page) -> list[str]:
    """The rows whose node has a thick outline."""
    return page.eval_on_selector_all(
        ".row .shape",
        "nodes => nodes.filter(node => getComputedStyle(node).strokeWidth === '2.5px')"
        ".map(node => node.parentElement.dataset.row)",
    )


def point_at(page: Page, selector: str, number: int = 0) -> None:
    """The mouse over the middle of an element."""
    target = page.locator(selector).nth(number)
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


@pytest.mark.parametrize("name", ["net.svg", "net.html"])
def test_a_row_and_its_node_light_up_together(page: Page, files: Path, name: str) -> None:
    page.goto((files / name).as_uri())
    assert (lit(page), outlined(page)) == ([], [])
    point_at(page, '[data-row="3"] .shape')  # the node, in the graph
    assert (lit(page), outlined(page)) == (["3"], ["3"])
    point_at(page, '[data-row="5"] text', 4)  # a number, in the table
    assert (lit(page), outlined(page)) == (["5"], ["5"])
    page.mouse.move(3, 3)
    assert (lit(page), outlined(page)) == ([], [])


def test_edges_of_the_layer_pointed_at_light_up(page: Page, files: Path) -> None:
    """Row 4 of ResNet-18 is the first sum, of the pool and of the block; two layers read it, the next one and sum."""
    page.goto((files / "net.html").as_uri())
    point_at(page, '[data-row="4"] .shape')
    ends = page.eval_on_selector_all(
        ".edge.on", "edges => edges.map(e => [Number(e.dataset.from), Number(e.dataset.to)])"
    )
    assert sorted(ends) == [[1, 4], [3, 4], [4, 5], [4, 7]]
    assert page.eval_on_selector(".edge.on", "edge => getComputedStyle(edge).stroke") == BLUE
    page.mouse.move(3, 3)
    assert page.locator(".edge.on").count() == 0


def test_the_page_zooms(page: Page, files: Path) -> None:
    page.goto((files / "net.html").as_uri())

    def widths() -> list[float]:
        return page.eval_on_selector_all("main svg", "pictures => pictures.map(p => p.getBoundingClientRect().width)")

    before = widths()
    assert len(before) == 2  # the graph with its table, and the bars
    page.click("#in")
    assert widths() == pytest.approx([1.25 * width for width in before], rel=1e-3)
    page.click("#out")
    page.click("#out")
    assert widths() == pytest.approx([width / 1.25 for width in before], rel=1e-3)
    page.mouse.move(700, 500)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)  # e times larger
    page.keyboard.up("Control")
    page.wait_for_function(f"document.querySelector('main svg').getBoundingClientRect().width > {before[0]}")
    assert widths() == pytest.approx([2.71828 / 1.25 * width for width in before], rel=1e-3)
    page.click("#fit")
    assert widths()[0] == pytest.approx(page.evaluate("document.querySelector('main .scroll').clientWidth"), abs=1)


def test_a_picture_wider_than_the_window_is_fitted_into_it(page: Page, files: Path) -> None:
    page.set_viewport_size({"width": 700, "height": 600})
    page.goto((files / "net.html").as_uri())
    assert page.eval_on_selector("main svg", "picture => picture.getBoundingClientRect().right") <= 700


def test_no_text_runs_into_the_next_column(page: Page, files: Path) -> None:
    """Widths are estimated where the picture is drawn; the browser knows them. A node's caption is no column."""
    page.goto((files / "net.svg").as_uri())
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll(".row")].flatMap(row => {
            const cells = [...row.querySelectorAll("text")].slice(1).filter(cell => cell.textContent);
            const boxes = cells.map(cell => cell.getBoundingClientRect());
            return boxes.slice(1).map((b, i) => b.left - boxes[i].right).filter(gap => gap < 2);
        })"""
    )
    assert overlaps == []
