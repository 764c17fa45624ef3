"""Records as a CSV file: one column for each name that any of them has."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from atv_local.errors import DataError

MAX_COLUMNS = 16_384
"""As many as spreadsheets open. Rows that share no names would otherwise give a file as large as their square."""
_LONGEST_HEADER = 1 << 20  # characters that are looked at


def write_table(path: Path, records: Callable[[], Iterable[Mapping[str, Any]]], columns: Collection[str]) -> None:
    """Write CSV as RFC 4180 has it, in UTF-8.

    Args:
        path: the file to write.
        records: called twice, to find the columns and to write the rows. Text is written as it is, None as an empty
            cell and other values as JSON.
        columns: those of a file without records.

    Raises:
        DataError: more than `MAX_COLUMNS` columns.
    """
    names: dict[str, None] = {}
    for record in records():
        names.update(dict.fromkeys(record))
        if len(names) > MAX_COLUMNS:
            raise DataError(f"the rows have more than {MAX_COLUMNS} different columns")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names or columns), restval="")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in record.items()} for record in records())


def read_header(path: Path) -> list[str]:
    """The columns of a CSV file; none if it does not begin with a header."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        text = file.read(_LONGEST_HEADER)
    try:
        return next(csv.reader(StringIO(text, newline=""), strict=True), [])
    except csv.Error:
        return []


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
