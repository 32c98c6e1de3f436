"""What `graft search` prints."""

from __future__ import annotations

import json
import os

from graft.errors import shown
from graft.evaluate.intervals import Interval
from graft.features.search import Found, Quality


def as_text(found: Found) -> str:
    """For people: a ranking for each space, then how far each can be relied on."""
    lines = [f"nearest to {shown(found.image)} of {found.pictures:,} pictures in {shown(found.folder)}"]
    for one in found.copies[:1]:
        more = f" and {len(found.copies) - 1:,} more" if len(found.copies) > 1 else ""
        lines.append(f"left out, since it is the same file: {shown(os.path.relpath(one, found.root))}{more}")
    for ranking in found.rankings:
        lines.append(f"in {ranking.space.title}:")
        width = max((len(shown(m.label)) for m in ranking.matches if m.label is not None), default=-2)
        lines += [
            f"  {rank:3}  {match.distance:10.4g}  {shown(match.label or ''):{width + 2}}"
            f"{shown(os.path.relpath(match.path, found.root))}"
            for rank, match in enumerate(ranking.matches, 1)
        ]
    if found.quality is not None:
        lines += quality_lines(found.quality, found.pictures)
    if found.problems:
        lines.append(f"{len(found.problems):,} files set aside; the first: {shown(found.problems[0].reason)}")
    return "\n".join(lines)


def quality_lines(quality: Quality, pictures: int) -> list[str]:
    """Precision at k as a small table: a heading, a line a space, and chance."""
    asked = f"all {pictures:,} pictures" if quality.queries == pictures else f"{quality.queries:,} of the pictures"
    ks = [f"{precision.k}" for precision in quality.at[0][1]]
    heading = (
        f"neighbours of the query's own class, asked of {asked}, near-duplicates left out (95 % interval), "
        f"among the first {', '.join(ks)}:"
    )
    width = max(len(space.title) for space, _ in quality.at)
    lines = [
        f"  {space.title:{width}}  " + "  ".join(f"{precision.share.percent():>19}" for precision in at)
        for space, at in quality.at
    ]
    return [heading, *lines, f"  {'drawn at random':{width}}  {100 * quality.chance:.1f} %"]


def as_json(found: Found) -> str:
    """For programs."""
    rankings = {
        ranking.space.name: {
            "metric": ranking.space.metric,
            "nearest": [{"path": m.path, "class": m.label, "distance": m.distance} for m in ranking.matches],
        }
        for ranking in found.rankings
    }
    quality = found.quality and {
        "queries": found.quality.queries,
        "chance": found.quality.chance,
        "precision": [
            {"space": space.name, "metric": space.metric, "k": p.k, **_interval(p.share)}
            for space, at in found.quality.at
            for p in at
        ],
    }
    return json.dumps(
        {
            "image": found.image,
            "class": found.label,
            "pictures": found.pictures,
            "copies": list(found.copies),
            **rankings,
            "quality": quality,
            "set_aside": [{"path": p.path, "reason": p.reason} for p in found.problems],
        },
        indent=1,
    )


def _interval(share: Interval) -> dict[str, float]:
    return {"value": share.value, "low": share.low, "high": share.high}
