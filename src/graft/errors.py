"""Every error that graft raises on purpose: one line that says what was needed, what came and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GraftError(Exception):
    """Something that the user can mend; the command line prints it as one line and exits with `exit_status`."""

    exit_status = 1


class UsageError(GraftError):
    """A wrong option, name or value: exit status 2."""

    exit_status = 2


class BadPicture(GraftError):
    """A file that is not a picture graft will open; the message names it and the reason."""


class BadFolder(GraftError):
    """A folder, archive or list of pictures that cannot be learnt from as it stands."""


class BadModel(GraftError):
    """A model folder or a weights file that is incomplete, altered or not a model."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of an "unknown name" message: the closest known name, or nothing.

    name: what was asked for. Returns `"; did you mean 'x'?"`, or an empty string when nothing is near.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """A path or name as it may stand in a one-line message: control characters and newlines escaped."""
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
