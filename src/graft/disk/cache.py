"""Where trunks and features are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from graft.errors import GraftError, shown


def cache_folder(asked: Path | None) -> Path:
    """The folder given, else $GRAFT_CACHE, else the system's own place for caches."""
    if asked is not None:
        return asked
    if given := os.environ.get("GRAFT_CACHE"):
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("graft", appauthor=False)


def unwritable(place: Path, error: Exception) -> GraftError:
    """The error for a cache that cannot be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return GraftError(f"the cache cannot be written: {shown(place)}: {reason}; free some space or give another --cache")
