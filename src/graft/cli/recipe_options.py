"""A flag for every setting of a recipe, made from the recipe itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from graft.training.recipe.settings import Recipe


def with_recipe_flags(names: Sequence[str] | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command gets a flag for each setting in place of its `**` parameter, which gets those given.

    names: the settings that have a flag; None for all.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name])
            for name, parameter in signature.parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        kinds = get_type_hints(Recipe)
        flags = {s.name: _flag(s, kinds[s.name]) for s in fields(Recipe) if names is None or s.name in names}
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in flags.items()
        ]
        command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        command.__annotations__ = {**{p.name: p.annotation for p in own}, **flags, "return": None}
        return command

    return decorated


def _flag(setting: Field[Any], kind: Any) -> Any:
    """The annotation that makes a flag of a setting; a duration is given as text, such as 5m."""
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    plain: Any = str if setting.name == "budget" else choices[0] if choices else kind
    text = setting.metadata["help"]
    if choices and isinstance(choices[0], str):
        plain = str
        if not all(f"{choice}:" in text for choice in choices):
            text = f"{', '.join(choices)}: {text}"
    flag = f"--{setting.name.replace('_', '-')}"
    return Annotated[
        (Path if plain is Path else plain) | None,
        typer.Option(
            f"{flag}/--no-{flag[2:]}" if plain is bool else flag,
            help=text + _default(setting),
            rich_help_panel=setting.metadata["group"],
            show_default=False,
        ),
    ]


def _default(setting: Field[Any]) -> str:
    """What a setting is where it is not given: from fresh weights and, where that differs, when fine-tuning."""
    scratch, tuned = setting.metadata["usual"], setting.metadata["tuned"]
    usual = [] if scratch is None else [f"default: {scratch}"]
    if tuned != scratch:
        usual.append(f"{'' if usual else 'default '}when fine-tuning: {tuned}")
    return f" ({'; '.join(usual)})" if usual else ""
