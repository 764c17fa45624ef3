"""Where a difference is not clear, the page of results says how large a one would have been found."""

from __future__ import annotations

import numpy as np

from atv_eval import difference
from benchmarks.report_cells import against, difference_table

ALL, NONE, FEW = np.ones(40), np.zeros(40), np.arange(40) < 2.0


def test_a_difference_that_is_not_clear_has_the_least_that_would_be() -> None:
    gap = difference({"a": FEW}, {"a": NONE})
    assert gap.detectable is not None
    cell = against({"a": FEW}, {"a": NONE})
    assert cell.endswith(f"p = 0.500, detectable {100 * gap.detectable:.1f}")
    assert "would be found" in difference_table(["", "over"], [["few", cell]])


def test_a_clear_difference_has_not() -> None:
    cell = against({"a": ALL}, {"a": NONE})
    assert cell.endswith("], p < 0.001")
    assert "found" not in difference_table(["", "over"], [["all", cell]])
