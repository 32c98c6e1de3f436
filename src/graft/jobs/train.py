"""`graft train`: from a folder of labelled pictures to a model folder, with an honest score."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from graft.classifier.artefact import Manifest, load
from graft.classifier.model import Model
from graft.progress import Progress, silent
from graft.run.settings import TrainSettings

if TYPE_CHECKING:
    from graft.run.state import Watch


def train(
    folder: str | Path,
    out: str | Path,
    *,
    settings: TrainSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Model:
    """Learn to tell the classes of a folder of pictures apart, write the model folder `out`, and open it.

    folder: class folders, ready splits of them, or a zip of either. settings: everything else, see TrainSettings.
    force: replace the model at `out`. Raises GraftError or one of its kinds, with one line that says what to do.
    """
    manifest = run(Path(folder), Path(out), settings or TrainSettings(), force=force, progress=progress)
    assert manifest.files
    return Model(load(Path(out)), device=(settings or TrainSettings()).device)


def run(
    folder: Path,
    out: Path,
    settings: TrainSettings,
    *,
    force: bool = False,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Manifest:
    """What `train` does, up to the finished folder; returns its manifest.

    watch: gets the history of a network that is trained or tuned, line by line. A probe imports no torch once its
    trunk is cached.
    """
    if settings.strategy == "scratch":
        from graft.run import scratch

        return scratch.run(folder, out, settings, force=force, progress=progress, watch=watch)
    from graft.run import transfer

    return transfer.run(folder, out, settings, force=force, progress=progress, watch=watch)


def summary(manifest: Manifest, out: Path) -> str:
    """What a person reads after training: why this strategy, then how good the model is."""
    assert manifest.test is not None
    top1, baseline = manifest.test["top1"], manifest.test["baseline"]
    advised = manifest.record.get("advice", {}).get("lines", ())
    lines = [
        *advised,
        *(("",) if advised else ()),
        (
            f"Right on {100 * top1['value']:.1f} % of {manifest.test['n']:,} test pictures "
            f"(95 % interval {100 * top1['low']:.1f}–{100 * top1['high']:.1f}); "
            f"always saying {manifest.test['majority']!r} would be right on {100 * baseline['value']:.1f} %."
        ),
        *_without_leaks(manifest),
        *manifest.data["notes"],
        *((f"The head: {manifest.record['head']}.",) if "head" in manifest.record else ()),
        *(f"The curves: {finding}" for finding in manifest.record.get("verdict", ())),
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
    budget, total = manifest.record["settings"].get("budget"), manifest.seconds["total"]
    if budget is None or total <= budget:
        return []
    needed = "one pass over the pictures, the choice of a head, the report and, for fine-tuning, one view and one step"
    over = ceil(total - budget)
    return [f"The budget of {budget:,g} s was exceeded by {over:,} s: {needed} are made whatever it is."]


def _without_leaks(manifest: Manifest) -> list[str]:
    """A line on the score without test pictures that have a near-duplicate in training, if there are any."""
    clean, test = manifest.test_without_leaks, manifest.test
    if clean is None or test is None:
        return []
    top1 = clean["top1"]
    leaked = f"{test['n'] - clean['n']:,} test pictures have a near-duplicate in training; without them it is right on "
    return [
        leaked + f"{100 * top1['value']:.1f} % of {clean['n']:,} ({100 * top1['low']:.1f}–{100 * top1['high']:.1f})."
    ]


__all__ = ["TrainSettings", "run", "summary", "train"]
