"""Reads protobuf's text format, as Caffe's network files are written in: a small parser without a schema.

Source: the text format's language specification, protobuf.dev, "Text Format Language Specification". Left out, as no
network file uses it: extensions, `Any`, angle brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graft.errors import UsageError, shown

Scalar = str | int | float | bool

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<number>-?(?:0x[0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?f?))
  | (?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>[{}\[\]:,;])
    """,
    re.VERBOSE,
)
_DEEPEST: Final = 50  # messages within messages; Caffe's go to four


@dataclass(frozen=True)
class Message:
    """Fields in the order they stand; a name may come several times."""

    fields: tuple[tuple[str, Scalar | Message], ...]

    def all(self, name: str) -> list[Scalar]:
        """Every plain value called `name`."""
        return [value for key, value in self.fields if key == name and not isinstance(value, Message)]

    def messages(self, name: str) -> list[Message]:
        """Every message called `name`."""
        return [value for key, value in self.fields if key == name and isinstance(value, Message)]

    def message(self, name: str) -> Message:
        """All messages called `name` as one, empty when there is none."""
        return Message(tuple(field for message in self.messages(name) for field in message.fields))

    def integers(self, name: str) -> list[int]:
        """Every value called `name`, which must be whole numbers. Raises UsageError otherwise."""
        values = self.all(name)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int):
                raise UsageError(f"{name} must be a whole number, got {shown(value)!r}; correct it in the prototxt")
        return [value for value in values if isinstance(value, int)]

    def integer(self, name: str, default: int) -> int:
        """The last value called `name`."""
        return (self.integers(name) or [default])[-1]

    def text(self, name: str, default: str = "") -> str:
        """The last value called `name`, as text."""
        return str((self.all(name) or [default])[-1])

    def flag(self, name: str, default: bool) -> bool:
        """The last value called `name`, true or false."""
        return bool((self.all(name) or [default])[-1])


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str) -> Message:
    """A text-format document → its fields.

    Raises UsageError with the line where it stops being one.
    """
    tokens = list(_tokens(text))
    fields, end = _fields(tokens, 0, depth=0)
    if tokens[end].kind != "end":
        raise UsageError(f"line {tokens[end].line} of the prototxt: a '}}' closes nothing; take it out")
    return fields


def _tokens(text: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise UsageError(
                f"line {line} of the prototxt: {text[position]!r} does not belong there; is it a prototxt?"
            )
        assert match.lastgroup is not None
        if match.lastgroup != "space":
            yield _Token(match.lastgroup, match.group(), line)
        line += match.group().count("\n")
        position = match.end()
    yield _Token("end", "the end", line)


def _fields(tokens: list[_Token], at: int, depth: int) -> tuple[Message, int]:
    """Fields up to a closing brace or the end; returns them and where that stands."""
    if depth > _DEEPEST:
        raise UsageError(f"line {tokens[at].line} of the prototxt: braces are nested more than {_DEEPEST} deep")
    fields: list[tuple[str, Scalar | Message]] = []
    while tokens[at].text != "}" and tokens[at].kind != "end":
        name, at = tokens[at], at + 1
        if name.kind != "word":
            raise _unexpected(name, "a field's name")
        colon = tokens[at].text == ":" and tokens[at].kind == "mark"
        at += colon
        if tokens[at].text == "{":
            opened = tokens[at]
            message, at = _fields(tokens, at + 1, depth + 1)
            if tokens[at].text != "}":
                raise UsageError(f"line {opened.line} of the prototxt: the brace after {name.text!r} is never closed")
            fields.append((name.text, message))
            at += 1
        elif not colon:
            raise _unexpected(tokens[at], f"':' or '{{' after {name.text!r}")
        elif tokens[at].text == "[":
            at += 1
            while tokens[at].text != "]":
                value, at = _scalar(tokens, at)
                fields.append((name.text, value))
                at += tokens[at].text == ","
            at += 1
        else:
            value, at = _scalar(tokens, at)
            fields.append((name.text, value))
        at += tokens[at].text in (",", ";") and tokens[at].kind == "mark"
    return Message(tuple(fields)), at


def _scalar(tokens: list[_Token], at: int) -> tuple[Scalar, int]:
    """One value; neighbouring strings are joined."""
    token = tokens[at]
    if token.kind == "string":
        text = ""
        while tokens[at].kind == "string":
            text += re.sub(r"\\(.)", r"\1", tokens[at].text[1:-1])
            at += 1
        return text, at
    if token.kind == "number":
        plain = token.text.rstrip("f") if "x" not in token.text else token.text
        is_float = "x" not in plain and any(mark in plain for mark in ".eE")
        return (float(plain) if is_float else int(plain, 0) if "x" in plain else int(plain)), at + 1
    if token.kind == "word":
        return {"true": True, "false": False}.get(token.text, token.text), at + 1
    raise _unexpected(token, "a value")


def _unexpected(token: _Token, needed: str) -> UsageError:
    return UsageError(f"line {token.line} of the prototxt: {needed} must stand there, got {shown(token.text)!r}")
