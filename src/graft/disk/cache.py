"""Where trunks and features are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(asked: Path | None) -> Path:
    """The folder given, else $GRAFT_CACHE, else the system's own place for caches."""
    if asked is not None:
        return asked
    if given := os.environ.get("GRAFT_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "graft"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "graft" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft"
