"""The queries of `-f`."""

from __future__ import annotations

import sys
from pathlib import Path

from atv_local import data
from atv_local.errors import UsageError


def queries_of_file(file: Path | None, column: list[str] | None) -> list[str]:
    """The queries of a file, where one is given, with the columns that `--column` names; notes go to stderr.

    Raises:
        DataError: as `atv_local.data.read_queries`.
        UsageError: columns without a file.
    """
    if file is not None:
        return data.read_queries(file, data.parse_columns(column or []), lambda note: print(note, file=sys.stderr))
    if column:
        raise UsageError("--column names columns of a file of queries; add the file, or leave it out")
    return []
