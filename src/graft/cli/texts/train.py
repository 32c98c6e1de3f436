"""What a person reads after training: why this strategy, then how good the model is."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from graft.classifier.manifest import Manifest


def summary(manifest: Manifest, out: Path) -> str:
    """The strategy and its reasons, the score with its interval, and what to do next."""
    assert manifest.test is not None
    test, record = manifest.test, manifest.record
    advised = record.advice.lines if record.advice else ()
    lines = [
        *advised,
        *(("",) if advised else ()),
        (
            f"Right on {100 * test.top1.value:.1f} % of {test.n:,} test pictures "
            f"(95 % interval {100 * test.top1.low:.1f}–{100 * test.top1.high:.1f}); "
            f"always saying {test.majority!r} would be right on {100 * test.baseline.value:.1f} %."
        ),
        *_without_leaks(manifest),
        *manifest.data.notes,
        *((f"The head: {record.head}.",) if record.head else ()),
        *(f"The curves: {finding}" for finding in record.verdict),
        _took(manifest),
        *_over_budget(manifest),
        f"Report: {out / 'report.html'}",
        f"Try it: graft predict {out} PICTURE",
    ]
    return "\n".join(lines)


def _took(manifest: Manifest) -> str:
    total, limit = manifest.seconds["total"], max(manifest.seconds["limit"], 1e-9)
    if manifest.strategy != "probe":
        key = "training" if manifest.strategy == "scratch" else "fine-tuning"
        return f"{total:.1f} seconds, {manifest.seconds[key]:.1f} of them for {key}."
    return (
        f"{total:.1f} seconds, {total / limit:.2f} times what decoding and running every picture once takes on this "
        "machine."
    )


def _over_budget(manifest: Manifest) -> list[str]:
    """A line where a budget for the whole run, which transfer has, was smaller than what a run cannot leave out."""
    budget, total = manifest.record.settings.get("budget"), manifest.seconds["total"]
    if manifest.strategy == "scratch" or not isinstance(budget, int | float) or total <= budget:
        return []
    needed = "one pass over the pictures, the choice of a head, the report and, for fine-tuning, one view and one step"
    over = ceil(total - budget)
    return [f"The budget of {budget:,g} s was exceeded by {over:,} s: {needed} are made whatever it is."]


def _without_leaks(manifest: Manifest) -> list[str]:
    """A line on the score without test pictures that have a near-duplicate in training, if there are any."""
    clean, test = manifest.test_without_leaks, manifest.test
    if clean is None or test is None:
        return []
    top1 = clean.top1
    leaked = f"{test.n - clean.n:,} test pictures have a near-duplicate in training; without them it is right on "
    return [leaked + f"{100 * top1.value:.1f} % of {clean.n:,} ({100 * top1.low:.1f}–{100 * top1.high:.1f})."]
