"""A flag for every setting of a training run, made from the settings themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, Final, get_args, get_type_hints

import typer

from graft.run.settings import FINETUNING, TrainingSettings

PANEL: Final = "Training and fine-tuning"
_SHARED: Final = ("seed", "class_weights")  # flags of the command itself


def with_training_flags(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with a flag for every setting in place of its `**` parameter, which gets those that were given."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    kinds = get_type_hints(TrainingSettings)
    flags: dict[str, Any] = {}
    for setting in fields(TrainingSettings):
        if setting.name in _SHARED:
            continue
        kind = kinds[setting.name]
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        plain: Any = choices[0] if choices else kind
        if setting.name == "budget":
            plain = str
        text = ", ".join(map(str, choices)) + ": " if choices and isinstance(choices[0], str) else ""
        flag = f"--{setting.name.replace('_', '-')}"
        flags[setting.name] = Annotated[
            (str if isinstance(plain, str) else plain) | None,
            typer.Option(
                f"{flag}/--no-{flag[2:]}" if plain is bool else flag,
                help=text + setting.metadata["help"] + _default(setting),
                rich_help_panel=PANEL,
                show_default=False,
            ),
        ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in flags.items()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {**{p.name: p.annotation for p in own}, **flags, "return": None}
    return command


def _default(setting: Field[Any]) -> str:
    """What a setting is where it is not given: from fresh weights and, where that differs, when fine-tuning."""
    usual = [] if setting.default is None else [f"default: {setting.default}"]
    tuned = FINETUNING.get(setting.name, setting.default)
    if tuned != setting.default:
        usual.append(f"{'' if usual else 'default '}when fine-tuning: {tuned}")
    return f" ({'; '.join(usual)})" if usual else ""
