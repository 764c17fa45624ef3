"""All bad rows of some files, reported at once."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from atv_local.errors import DataError
from atv_local.text import counted

_MAX_NAMED = 20


class BadRows:
    """Rows that cannot be used: how many, and where the first ones are and why."""

    def __init__(self) -> None:
        self.n = 0
        self._named: list[tuple[Path, int, str]] = []

    def add(self, path: Path, line: int, problem: str) -> None:
        """Count one more row; `line` is where it is."""
        self.n += 1
        if self.n <= _MAX_NAMED:
            self._named.append((path, line, problem))

    def error(self) -> DataError:
        """The error that names them."""
        row = "the row" if self.n == 1 else f"these {self.n} rows"
        return DataError(f"{self}; correct {row}, or pass `skip_bad_rows=True`")

    def __str__(self) -> str:
        parts, last = [], None
        for (path, problem), rows in groupby(self._named, lambda row: (row[0], row[2])):
            lines = ", ".join(f":{line}" for _, line, _ in rows)
            parts.append(f"{path if path != last else ''}{lines}: {problem}")
            last = path
        if self.n > len(self._named):
            parts.append(f"and {counted(self.n - len(self._named), 'more row')}")
        return "; ".join(parts)
