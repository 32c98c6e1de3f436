"""The page that `graft advise --out` writes: the table with its cell marked, what every stage knows, and why.

The same stands in the report of a model whose strategy was advised.
"""

from __future__ import annotations

from html import escape
from importlib import resources

from graft.errors import shown
from graft.heads.stage_probes import StageScore
from graft.pages.charts import share_strip
from graft.strategy.advice import PAIRS, ROWS, Advice, Cell, interval


def advice_page(advice: Advice, *, folder: str, network: str) -> str:
    """One self-contained HTML page; names of stages and folders are text from outside, and escaped."""
    css = resources.files("graft.pages").joinpath("page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width"><title>Advice for {_text(folder)}</title>'
        f"<style>{css}</style></head><body><main>"
        f'<p class="eyebrow">Advice for {_text(folder)}, by {_text(network)}</p>'
        f"<h1>{_text(advice.decision.words)}</h1>{_reasons(advice)}"
        f"<section><h2>By the table</h2>{_by_table(advice)}</section>"
        f"<section><h2>By measurement</h2>{_by_measurement(advice)}</section>"
        "</main></body></html>\n"
    )


def advice_section(advice: Advice) -> str:
    """The same as a part of a model's report, as HTML: decision, reasons, table and measurements."""
    words = advice.decision.words
    return (
        f"<p><strong>{_text(words[0].upper() + words[1:])}.</strong></p>{_reasons(advice)}"
        f"<h3>By the table</h3>{_by_table(advice)}<h3>By measurement</h3>{_by_measurement(advice)}"
    )


def _reasons(advice: Advice) -> str:
    return "".join(f"<p>{_text(sentence)}</p>" for sentence in advice.reason)


def _by_table(advice: Advice) -> str:
    like = advice.likeness
    return (
        f"<p>{advice.pictures:,} training pictures of {advice.classes} classes; how like the source's pictures they "
        f"are, from 0 to 1: {like.value:.2f} ({like.low:.2f}–{like.high:.2f}), {like.word}.</p>"
        '<table class="advice"><thead><tr><th></th><th>similar to the source</th><th>very different</th></tr></thead>'
        f"<tbody>{''.join(_row(pair, advice.cell) for pair in PAIRS)}</tbody></table>"
    )


def _by_measurement(advice: Advice) -> str:
    stages = "".join(_stage(score, taken=score.reads == advice.probe.reads) for score in advice.scores)
    return (
        "<p>How often a linear head on each stage is right on training pictures that "
        "it never saw, with the 95 % interval. The one to take is set in bold.</p>"
        '<table class="advice"><thead><tr><th>a linear head on</th><th class="number">width</th><th>0–100 %</th>'
        f'<th class="number">right</th></tr></thead><tbody>{stages}</tbody></table>'
    )


def _row(pair: tuple[Cell, ...], marked: Cell) -> str:
    cells = "".join(f"<td{' class=marked' if cell == marked else ''}>{cell.words}</td>" for cell in pair)
    return f"<tr><th>{ROWS[pair[0].amount]}</th>{cells}</tr>"


def _stage(score: StageScore, *, taken: bool) -> str:
    share = interval(score)
    return (
        f"<tr{' class=taken' if taken else ''}><th>{_text(score.stage)}</th>"
        f'<td class="number">{score.width:,}</td><td class="strip-cell">{share_strip(share, tone="hit")}</td>'
        f'<td class="number">{share.percent()}</td></tr>'
    )


def _text(value: str) -> str:
    return escape(shown(value))
