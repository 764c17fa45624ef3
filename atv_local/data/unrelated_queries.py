"""Queries outside all tasks, whose answers steering should not change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from atv_local.data.rows import read_queries
from atv_local.errors import DataError

MIN_QUERIES, MAX_QUERIES = 12, 2000
PACKAGED = Path(__file__).with_suffix(".txt")
_T = TypeVar("_T")


def held_out(everything: Sequence[_T]) -> list[_T]:
    """The last sixth, from 2 to 40: what is held out and not trained on."""
    return list(everything[-min(40, max(2, len(everything) // 6)) :])


def read_unrelated_queries(path: Path | None) -> list[str]:
    """The queries of a file, each once; by default those of the package.

    Raises:
        DataError: as `read_queries`, and for fewer than 12 queries or more than 2000.
    """
    path = path or PACKAGED
    queries = list(dict.fromkeys(query.strip() for query in read_queries(path)))
    if not MIN_QUERIES <= len(queries) <= MAX_QUERIES:
        raise DataError(f"{path} has {len(queries)} different queries; give {MIN_QUERIES} to {MAX_QUERIES}")
    return queries
