"""Queries from a file, one a line or the `input` of JSON Lines or CSV; every mistake is named by file and line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from atv_local.errors import DataError

_MAX_BYTES = 64 << 20
_LABEL = 32


def read_queries(path: Path) -> list[str]:
    """The queries of a text file, in order; of `.jsonl` and `.csv` the inputs of the rows. Empty lines are passed over.

    Raises:
        DataError: a file that cannot be read, holds no query, or has a line without one.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise DataError(f"{path} is larger than {_MAX_BYTES} bytes")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    kind = path.suffix.lower()
    if kind == ".csv":
        found = _csv(path, text)
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        found = (
            [_json(path, number, line) for number, line in lines] if kind == ".jsonl" else [line for _, line in lines]
        )
    if not found:
        raise DataError(f"{path} holds no query; write one a line")
    return found


def shorten(text: str) -> str:
    """One printable line of at most 32 characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= _LABEL else line[: _LABEL - 1] + "…"


def _json(path: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not JSON: {error}") from error
    return _checked(path, number, row.get("input") if isinstance(row, dict) else None)


def _csv(path: Path, text: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        return [_checked(path, rows.line_num, row.get("input")) for row in rows]
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: not CSV: {error}") from error


def _checked(path: Path, number: int, query: object) -> str:
    if not isinstance(query, str) or not query.strip():
        raise DataError(f'{path}:{number}: no text under "input"')
    return query
