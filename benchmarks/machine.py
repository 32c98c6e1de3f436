"""What every published number carries: machine, versions, command."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("GRAFT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the versions that matter."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("graft", "numpy", "onnxruntime", "pillow", "torch", "timm")},
        "command": "python -m "
        + " ".join([Path(sys.argv[0]).parent.name + "." + Path(sys.argv[0]).stem, *sys.argv[1:]]),
    }


def keep(name: str, results: dict[str, Any]) -> None:
    """Add results to `results/<name>.json`, replacing what this run measured again, and print them."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    stamped = {section: {**values, "machine": machine()} for section, values in results.items()}
    path.write_text(json.dumps({**before, **stamped}, indent=1) + "\n")
    print(json.dumps(results, indent=1))
