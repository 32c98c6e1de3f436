"""What `graft networks` prints."""

from __future__ import annotations

import json
from dataclasses import asdict

from graft.analysis.show import aligned, amount, by
from graft.jobs.networks import Entry


def as_json(entries: tuple[Entry, ...]) -> str:
    """For programs."""
    return json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False)


def as_text(entries: tuple[Entry, ...]) -> str:
    """The table for a terminal; top-1 is the published error, percent."""
    head = ("network", "weights", "year", "input", "parameters", "MACs", "top-1 error")
    rows = [
        (
            *(entry.name, ", ".join(entry.weights) or "none", str(entry.year), by(entry.input)),
            *(amount(entry.parameters).strip(), amount(entry.macs).strip()),
            f"{entry.error.top1:.4g} %" if entry.error and entry.error.top1 is not None else "–",
        )
        for entry in entries
    ]
    return "\n".join(aligned([head, *rows], left=2))
