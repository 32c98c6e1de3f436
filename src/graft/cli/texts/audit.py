"""What `graft audit` prints."""

from __future__ import annotations

import json

from graft.data import audit as data_audit
from graft.errors import shown
from graft.jobs.audit import Audited


def as_text(found: Audited) -> str:
    """For people."""
    lines = [data_audit.text(found.audit)]
    if found.doubts:
        lines.append("the labels that the model doubts most, judged by a fit that never saw the picture:")
        lines += [
            f"         - {shown(d.path)}: labelled {shown(d.label)}, looks like {shown(d.predicted)} "
            f"(probability of the label {100 * d.probability:.1f} %)"
            for d in found.doubts
        ]
    return "\n".join(lines)


def as_json(found: Audited) -> str:
    """For programs: the audit's own structure, and `doubts`."""
    doubts = [
        {"path": d.path, "label": d.label, "predicted": d.predicted, "probability": d.probability} for d in found.doubts
    ]
    return json.dumps({**found.audit.to_json(), "doubts": doubts}, indent=1)
