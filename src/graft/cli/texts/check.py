"""What `graft check --gradients` prints."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from graft.jobs.check import GradientReport


def as_text(report: GradientReport) -> str:
    """The table by layer for a terminal, and the verdict under it."""
    from graft.analysis.show import aligned, by

    head = ("tensor", "layer", "verdict", "shape", "compared", "finer", "kinks", "relative error")
    rows = [
        (
            *(gradient.name, gradient.kind, gradient.verdict, by(gradient.shape) or "1"),
            *(str(gradient.compared), str(gradient.finer), str(gradient.kinks)),
            "–" if math.isnan(gradient.error) else f"{gradient.error:.1e}",
        )
        for gradient in report.gradients
    ]
    title = f"{report.network}, {report.loss}, {report.mode} mode, float64, input {by(report.input)}"
    return "\n".join([title, "", *aligned([head, *rows], left=3), "", _verdict(report)])


def as_json(report: GradientReport) -> str:
    """A JSON object; numbers that are not finite are null."""
    rows = [
        {
            **asdict(gradient),
            "error": gradient.error if math.isfinite(gradient.error) else None,
            "resolution": gradient.resolution if math.isfinite(gradient.resolution) else None,
            "verdict": gradient.verdict,
        }
        for gradient in report.gradients
    ]
    document = {
        "network": report.network, "loss": report.loss, "mode": report.mode, "input": list(report.input),
        "passed": report.passed, "fault": report.fault, "gradients": rows,
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False)


def _verdict(report: GradientReport) -> str:
    wrong = [gradient for gradient in report.gradients if gradient.verdict == "wrong"]
    compared = sum(gradient.compared for gradient in report.gradients)
    if report.passed:
        kinks = sum(gradient.kinks for gradient in report.gradients)
        skipped = f"; {kinks} lay on a kink and were skipped" if kinks else ""
        return f"right: {compared} coordinates of {len(report.gradients)} tensors agree with differences{skipped}"
    if not wrong:
        return "undecided: no tensor has a slope that differences can tell from 0"
    unreached = "" if wrong[0].reached else f"; no gradient reaches {wrong[0].name}"
    fault = f"; at fault: {report.fault}" if report.fault else ""
    return f"wrong: {len(wrong)} of {len(report.gradients)} tensors{unreached}{fault}"
