"""What `graft analyze` and `graft compare` print: the fit or the times where they were asked for, else the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from graft.analysis import show

if TYPE_CHECKING:
    from graft.analysis.compare import Compared
    from graft.jobs.analyze import Analyzed

Form = Literal["text", "json", "csv"]


def analysis_text(found: Analyzed, form: Form, *, batch: int) -> str:
    """A network: for people, or for programs."""
    if found.fit is not None:
        from graft.analysis.fit import fit_text

        note = f"\n{found.unread} pictures could not be read; graft audit says which" if found.unread else ""
        return fit_text(found.fit) + note
    if found.measured is not None:
        from graft.analysis.measure import measured_text

        return measured_text(found.measured)
    if form == "json":
        return show.as_json(found.analysis)
    return show.as_csv(found.analysis).rstrip("\n") if form == "csv" else show.as_text(found.analysis, batch=batch)


def comparison_text(rows: Sequence[Compared], form: Form) -> str:
    """Networks beside each other: for people, or for programs."""
    from graft.analysis import compare

    if form == "json":
        return compare.compare_json(rows)
    return compare.compare_csv(rows).rstrip("\n") if form == "csv" else compare.compare_text(rows)
