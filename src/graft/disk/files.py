"""Writing a single file that the user named."""

from __future__ import annotations

from pathlib import Path

from graft.errors import GraftError, shown


def write_whole(file: Path, data: bytes) -> None:
    """Write a file, whole or not at all, and the folders above it. Raises GraftError where it cannot be written."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise GraftError(f"cannot write {shown(file)}: {error.strerror or error}; choose another file") from error
