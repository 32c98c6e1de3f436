"""What `graft evaluate` prints."""

from __future__ import annotations

import json

from graft.classifier.evaluation import Evaluation
from graft.errors import shown
from graft.evaluate.metrics import to_json


def as_json(result: Evaluation) -> str:
    """Scores as `model.json` holds them, and what they are worth."""
    return json.dumps(
        {
            **to_json(result.scores),
            "set_aside": [{"path": p.path, "reason": p.reason} for p in result.problems],
            "trained_on": result.seen,
            "of_the_test_split": result.tested,
            "looks": result.looks,
        },
        indent=1,
    )


def as_text(result: Evaluation) -> str:
    """For people: the score first, then each class, then what to be careful about."""
    s = result.scores
    lines = [
        f"right on {s.top1.percent()} of {s.n:,} pictures (95 % interval)",
        f"always {shown(s.majority)}: {s.baseline.percent()}",
        f"balanced over classes: {s.balanced.percent()}",
    ]
    if s.top5 is not None:
        lines.append(f"among the first five: {s.top5.percent()}")
    width = max(len(shown(c.name)) for c in s.per_class)
    lines += [
        f"  {shown(c.name):{width}}  {c.n:6,} pictures, found {c.recall.percent()}, "
        f"of those called so {c.precision.percent()}"
        for c in s.per_class
        if c.n
    ]
    if result.problems:
        lines.append(f"{len(result.problems):,} files set aside; the first: {result.problems[0].reason}")
    if result.seen:
        lines.append(f"careful: the model was trained on {result.seen:,} of these pictures, so this is no test")
    if result.tested:
        lines.append(f"{result.tested:,} of these are its test pictures, used {result.looks} times by now")
    return "\n".join(lines)
