"""Choices, schemas and grammars as they are written on a command line: in an option, or in a file that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atv_local.answer.constraint import AUTO, MAX_CHOICE_CHARS, MAX_CHOICES, Choices
from atv_local.data import reading
from atv_local.errors import UsageError
from atv_local.target import MAX_GRAMMAR_CHARS

_MAX_CHOICES_FILE = 2 * MAX_CHOICES * (MAX_CHOICE_CHARS + 1)
"""Characters of the file; with some room, so that the error can say what is too much."""


def parse_choices(text: str) -> Choices:
    """`auto`, a file with one choice on each line, or choices with commas between them.

    Raises:
        UsageError: a file that cannot be read, or none.
    """
    if text == AUTO:
        return AUTO
    path = Path(text)
    if "\0" not in text and (path.suffix.lower() == ".txt" or _is_file(path)):
        found = _read(path, "choices", _MAX_CHOICES_FILE).splitlines()
    else:
        found = text.split(",")
    return [choice.strip() for choice in found if choice.strip()]


def read_schema(path: Path) -> dict[str, Any]:
    """The JSON schema in a file.

    Raises:
        UsageError: no such file, or something else than a JSON object.
    """
    text = _read(path, "schema", MAX_GRAMMAR_CHARS)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the schema {path} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UsageError(f'the schema {path} is not a JSON object, such as {{"type": "object"}}')
    return schema


def read_grammar(path: Path) -> str:
    """The grammar in a file.

    Raises:
        UsageError: no such file, or one that is too large.
    """
    return _read(path, "grammar", MAX_GRAMMAR_CHARS)


def _read(path: Path, kind: str, limit: int) -> str:
    with reading(f"the {kind} {path}", UsageError), path.open(encoding="utf-8") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise UsageError(f"the {kind} {path} has more than {limit} characters")
    return text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than a name can be
        return False
