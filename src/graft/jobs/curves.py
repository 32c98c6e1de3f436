"""`graft curves`: what the curves of training runs say, in words and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graft.disk.files import write_whole
from graft.errors import UsageError, nearest, shown
from graft.training.checks.curves import Finding, verdict
from graft.training.loop.history import End, Epoch, Event, History, Start, Step, read_history

if TYPE_CHECKING:
    from graft.pages.curves import Drawn

FORMS: Final = (".svg", ".png", ".html")


def curves(run: str | Path) -> tuple[Finding, ...]:
    """What the curves of one run say, most serious first: at least one finding, which may be that all is well.

    run: a model folder, the folder of a run that is still working, or its history file.
    Raises BadModel, in one line, where there is no history of a training run.
    """
    return verdict(read_history(Path(run)))


def run(runs: Sequence[Path], out: Path | None = None) -> tuple[Drawn, ...]:
    """The runs with their verdicts, in the order given; `out` gets their picture, by its ending SVG, PNG or HTML.

    Raises UsageError for another ending, BadModel for what is no run, GraftError when `out` cannot be written.
    """
    from graft.pages.curves import Drawn

    if out is not None and out.suffix.lower() not in FORMS:
        raise UsageError(f"--out must end in .svg, .png or .html, got {shown(out)}{nearest(out.suffix.lower(), FORMS)}")
    histories = [(shown(path), read_history(path)) for path in runs]
    drawn = tuple(Drawn(name, history, verdict(history)) for name, history in histories)
    if out is not None:
        _write(out, drawn)
    return drawn


def as_text(runs: Sequence[Drawn]) -> str:
    """A paragraph for each run: how far it is, and what its curves say."""
    return "\n\n".join("\n".join([f"{one.name}: {_state(one.history)}", *_findings(one)]) for one in runs)


def as_json(runs: Sequence[Drawn]) -> str:
    """The same for programs: a list with an object for each run; losses that are not finite are null."""
    return json.dumps([_fields(one) for one in runs], indent=1, allow_nan=False)


def _write(out: Path, runs: Sequence[Drawn]) -> None:
    from graft.pages.curves import curves_html, curves_png, curves_svg

    form = out.suffix.lower()
    content = curves_png(runs) if form == ".png" else (curves_svg if form == ".svg" else curves_html)(runs).encode()
    write_whole(out, content)


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


__all__ = ["End", "Epoch", "Event", "Start", "Step", "as_json", "as_text", "curves", "run"]
