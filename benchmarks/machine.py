"""What every published number carries: machine, versions, command."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("GRAFT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def processor() -> tuple[str, str]:
    """Its name, and the widest of the instructions that it has and networks run on: speeds differ by them most."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    about = {key.strip(): value.strip() for key, _, value in lines}
    has = about.get("flags", "").split()
    return about.get("model name", "?"), next((name for name in INSTRUCTIONS if name in has), "?")


def _commit() -> str:
    """Which code was measured; "+" where files were changed since."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, cwd=RESULTS, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the versions that matter."""
    name, instructions = processor()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": name,
        "instructions": instructions,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: version(name) for name in ("graft", "numpy", "onnxruntime", "pillow", "torch", "timm")},
        "command": "python -m "
        + " ".join([Path(sys.argv[0]).parent.name + "." + Path(sys.argv[0]).stem, *sys.argv[1:]]),
    }


def keep(name: str, results: dict[str, Any]) -> None:
    """Add results to `results/<name>.json`, replacing what this run measured again, and print them.

    Several runs may keep theirs at once.
    """
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    stamped = {section: {**values, "machine": machine()} for section, values in results.items()}
    with FileLock(Path(tempfile.gettempdir()) / f"graft-benchmarks-{name}.lock"):
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**before, **stamped}, indent=1) + "\n")
    print(json.dumps(results, indent=1))
