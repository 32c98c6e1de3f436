"""A recipe from what a person wrote: a TOML file, and flags that win over it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from graft.errors import UsageError, nearest, shown
from graft.training.recipe.settings import HERE, Recipe, refuse_for_a_probe, trained

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def recipe_of(given: Mapping[str, Any], *, file: Path | None = None) -> Recipe:
    """The recipe of the settings in `file` (TOML), with those in `given` that are not None in their place.

    given: by the names of Recipe; `budget` as text, such as "5m". Raises UsageError for a file that cannot be read, and
    for what Recipe refuses.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "budget" in chosen:
        chosen["budget"] = seconds_of(chosen["budget"])
    recipe = Recipe(**{**({} if file is None else read_toml(_text(file))), **chosen})
    if recipe.strategy == "probe":
        refuse_for_a_probe([name for name in trained() if chosen.get(name, False) is not False])
    return recipe


def read_toml(text: str) -> dict[str, Any]:
    """The settings that a TOML text has, by name. Raises UsageError for text that is not TOML, or an unknown name."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the settings are not valid TOML: {shown(error)}") from error
    known = [setting.name for setting in fields(Recipe) if setting.metadata["group"] != HERE]
    for name in values:
        if name not in known:
            raise UsageError(f"there is no setting {shown(name)!r}{nearest(name, known)}")
    return values


def seconds_of(duration: str) -> float:
    """Seconds in a duration such as "90", "5m" or "1.5h". Raises UsageError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", duration.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"--budget must be a time such as 90s, 5m or 1.5h, got {shown(duration)!r}")
    return float(found[1]) * _UNITS[found[2]]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--settings needs a TOML file, {shown(file)} cannot be read as one ({error})") from error
