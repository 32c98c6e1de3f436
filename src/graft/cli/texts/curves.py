"""What `graft curves` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from graft.pages.curves import Drawn
from graft.training.loop.history import History


def as_text(runs: Sequence[Drawn]) -> str:
    """A paragraph for each run: how far it is, and what its curves say."""
    return "\n\n".join("\n".join([f"{one.name}: {_state(one.history)}", *_findings(one)]) for one in runs)


def as_json(runs: Sequence[Drawn]) -> str:
    """The same for programs: a list with an object for each run; losses that are not finite are null."""
    return json.dumps([_fields(one) for one in runs], indent=1, allow_nan=False)


def _state(history: History) -> str:
    done = len(history.epochs)
    parts = [f"{done} epoch{'s' if done != 1 else ''}"]
    if best := _best(history):
        parts.append(f"best validation accuracy {100 * best[1]:.1f} % in epoch {best[0]}")
    parts.append(f"ended ({history.end.why})" if history.end else "not ended: still at work, or killed")
    return ", ".join(parts)


def _best(history: History) -> tuple[int, float] | None:
    """The epoch of the highest validation accuracy, the first of equals, and that accuracy."""
    scored = [(epoch.epoch, epoch.val.accuracy) for epoch in history.epochs if epoch.val]
    return max(scored, key=lambda pair: pair[1], default=None)


def _findings(one: Drawn) -> list[str]:
    return [
        line
        for f in one.findings
        for line in (f"  {f.severity:7}  {f.name}: {f.evidence}", f"           what to do: {f.advice}")
    ]


def _fields(one: Drawn) -> dict[str, Any]:
    best = _best(one.history)
    last = one.history.epochs[-1] if one.history.epochs else None
    return {
        "run": one.name,
        "epochs": len(one.history.epochs),
        "ended": one.history.end.why if one.history.end else None,
        "best_epoch": best[0] if best else None,
        "best_validation_accuracy": best[1] if best else None,
        "train_loss": _finite(last.train.loss) if last else None,
        "train_accuracy": last.train.accuracy if last else None,
        "findings": [asdict(finding) for finding in one.findings],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
