"""Cells that several tables of docs/explanation/results.md have."""

from __future__ import annotations

from typing import Any

import numpy as np

from atv_eval import difference

Hits = dict[str, np.ndarray[Any, np.dtype[np.float64]]]
"""A score for each row, by task."""


def against(ours: Hits, theirs: Hits) -> str:
    """What we have more, in points with an interval and a p-value, on the same rows."""
    found = difference(ours, theirs)
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}], {p}"


def picture(name: str, alt: str) -> str:
    """A picture that `benchmarks.pictures` draws, in the page of results."""
    return f"![{alt}](../images/results/{name}.svg)"
