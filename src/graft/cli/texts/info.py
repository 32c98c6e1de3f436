"""What `graft info` prints."""

from __future__ import annotations

from pathlib import Path

from graft.classifier.manifest import Manifest
from graft.errors import shown


def as_json(manifest: Manifest) -> str:
    """`model.json`, whole."""
    return manifest.to_bytes().decode()


def as_text(manifest: Manifest, folder: Path, *, verified: bool) -> str:
    """A few lines for people."""
    lines = [
        f"{shown(folder)}: {manifest.network}, {manifest.strategy}",
        f"made {manifest.record.made[:10]} by graft {manifest.graft}",
        f"classes ({len(manifest.classes)}): {', '.join(shown(name) for name in manifest.classes)}",
    ]
    for what, scores in (("test", manifest.test), ("without leaked pictures", manifest.test_without_leaks)):
        if scores:
            top1 = scores.top1
            lines.append(
                f"{what}: right on {100 * top1.value:.1f} % of {scores.n:,} pictures "
                f"(95 % interval {100 * top1.low:.1f}–{100 * top1.high:.1f}); "
                f"always {shown(scores.majority)}: {100 * scores.baseline.value:.1f} %"
            )
    looks = manifest.looks
    lines.append(f"the test pictures have been used {looks} time{'s' if looks != 1 else ''}")
    steps = ", ".join(
        f"{name} {value:.1f}" for name, value in manifest.seconds.items() if name not in ("total", "limit")
    )
    total, limit = manifest.seconds["total"], manifest.seconds["limit"]
    lines.append(
        f"trained in {total:.1f} s, {total / max(limit, 1e-9):.2f} times the limit of this data there ({steps})"
    )
    if verified:
        lines.append("golden pictures: reproduced")
    return "\n".join(lines)
