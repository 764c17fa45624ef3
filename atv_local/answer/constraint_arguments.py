"""Choices, schemas and grammars as they are written on a command line: in an option, or in a file that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atv_local.answer.constraint import MAX_CHOICE_CHARS, Choices, is_auto
from atv_local.data import MAX_LABELS, reading
from atv_local.errors import UsageError
from atv_local.target import MAX_GRAMMAR_CHARS
from atv_local.text import shown

_ROWS = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Files with a header, or with JSON on each line."""
_MAX_CHOICES_FILE = 2 * MAX_LABELS * (MAX_CHOICE_CHARS + 1)
"""Characters of the file; with some room, so that the error can say what is too much."""


def parse_choices(text: str) -> Choices:
    """`auto`, `auto:TASK`, choices with commas between them, a JSON list, or a file of them.

    A file has one on each line, or a JSON list if it is named `.json`. A text without commas is a file if it exists or
    looks like the path of one: with a folder or an ending.

    Raises:
        UsageError: a file that cannot be read, or a single choice, which leaves nothing to choose.
    """
    if is_auto(text):
        return text
    choices = _inline_list(text) or (_read_choices(Path(text)) if _is_path(text) else text.split(","))
    if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
        choices = [choice.strip() for choice in choices if choice.strip()]
    if len(choices) == 1:
        raise UsageError(f"`choices` {shown(text)} is a single answer; give several with commas between, or a file")
    return choices


def _is_path(text: str) -> bool:
    path = Path(text)
    if not text.strip() or "\0" in text:
        return False
    try:
        return path.is_file() if "," in text else path.name != text or bool(path.suffix) or path.exists()
    except OSError:  # longer than a name can be
        return False


def _inline_list(text: str) -> list[str]:
    """The texts of a JSON list; empty if it is none."""
    try:
        choices = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return choices if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices) else []


def _read_choices(path: Path) -> list[str]:
    text = _read(path, "choices", _MAX_CHOICES_FILE)
    if path.suffix.lower() in _ROWS:
        raise UsageError(f"the choices {path} would be read as lines of text; save the answers as .txt or .json")
    if path.suffix.lower() != ".json":
        return text.split("\n")  # `splitlines` would also split at a form feed, which can stand in a text
    choices = _parse_json(text, f"the choices {path}")
    if not isinstance(choices, list):
        raise UsageError(f'the choices {path} is not a JSON list, such as ["yes", "no"]')
    return choices


def read_schema(path: Path) -> dict[str, Any]:
    """The JSON schema in a file.

    Raises:
        UsageError: no such file, or something else than a JSON object.
    """
    schema = _parse_json(_read(path, "schema", MAX_GRAMMAR_CHARS), f"the schema {path}")
    if not isinstance(schema, dict):
        raise UsageError(f'the schema {path} is not a JSON object, such as {{"type": "object"}}')
    return schema


def read_grammar(path: Path) -> str:
    """The grammar in a file.

    Raises:
        UsageError: no such file, or one that is too large.
    """
    return _read(path, "grammar", MAX_GRAMMAR_CHARS)


def _parse_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what} is not JSON: {error}") from error


def _read(path: Path, kind: str, limit: int) -> str:
    with reading(f"the {kind} {path}", UsageError), path.open(encoding="utf-8-sig") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise UsageError(f"the {kind} {path} has more than {limit} characters")
    return text
