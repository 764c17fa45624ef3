"""Cells that several tables of docs/explanation/results.md have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atv_eval import Difference, difference, table

Hits = dict[str, np.ndarray[Any, np.dtype[np.float64]]]
"""A score for each row, by task."""


_FOUND = "detectable"


def against(ours: Hits, theirs: Hits) -> str:
    """What we have more, on the same rows."""
    return points(difference(ours, theirs))


def points(gap: Difference) -> str:
    """A difference in points with its interval and p-value; if it is not clear, also the smallest that would be."""
    p = "p < 0.001" if gap.p < 0.001 else f"p = {gap.p:.3f}"
    least = "" if gap.clear or gap.detectable is None else f", {_FOUND} {100 * gap.detectable:.1f}"
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}], {p}{least}"


def difference_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with cells of `points`, and what they say where a difference is not clear."""
    unclear = any(_FOUND in cell for row in rows for cell in row)
    note = f"`{_FOUND}`: the smallest true difference that would be found, with p < 0.05, in four of five tries.\n"
    return f"{table(head, rows)}\n{note}" if unclear else table(head, rows)


def picture(name: str, alt: str) -> str:
    """A picture that `benchmarks.pictures` draws, in the page of results."""
    return f"![{alt}](../images/results/{name}.svg)"
