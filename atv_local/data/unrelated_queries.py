"""Queries outside any task: what steering should leave alone. Knows nothing of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from atv_local.errors import DataError

MAX_LINES, MAX_BYTES = 2000, 1 << 20
_T = TypeVar("_T")


def held_out(everything: Sequence[_T]) -> list[_T]:
    """The last sixth, at least two: what is held out and not trained on."""
    return list(everything[-max(2, len(everything) // 6) :])


def read_unrelated_queries(path: Path | None) -> list[str]:
    """The lines of a text file, by default of our own list."""
    source = path or files("atv_local.data") / "unrelated_queries.txt"
    try:
        with source.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        lines = data.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {source}: {error}") from error
    queries = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(data) > MAX_BYTES or not 12 <= len(queries) <= MAX_LINES:
        raise DataError(
            f"{source} has {len(queries)} queries; give 12 to {MAX_LINES}, one a line, below {MAX_BYTES} bytes"
        )
    return queries
