"""The page that `graft advise --out` writes: the table with its cell marked, what every stage knows, and why.

The same stands in the report of a model whose strategy was advised.
"""

from __future__ import annotations

from typing import Any

from graft.pages.charts import share_strip
from graft.pages.page import page
from graft.strategy.advice import PAIRS, ROWS, Advice, interval


def advice_page(advice: Advice, *, folder: str, network: str) -> str:
    """The page as HTML text."""
    return page(
        "advice.html.j2",
        title=f"Advice for {folder}",
        network=network,
        advised=advised(advice),
        share_strip=share_strip,
    )


def advised(advice: Advice) -> dict[str, Any]:
    """What `advised.html.j2` shows of an advice: its table's rows, and its stages with their shares."""
    return {
        "advice": advice,
        "table": [(ROWS[pair[0].amount], pair) for pair in PAIRS],
        "stages": [(score, interval(score)) for score in advice.scores],
    }
