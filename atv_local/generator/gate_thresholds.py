"""The thresholds of a gate, from the similarities of rows that should pass and of queries that should not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RECALL = 0.97
"""The share of the rows that pass."""

VALID_RECALL, OUTSIDE_STEERED = "gate_valid_recall", "gate_outside_steered"
"""Metrics of a manifest: the shares that the gate lets through, of validation rows and of unrelated queries."""

_OWN = 0.25
_FEW, _DEVIATIONS = 100, 2.0
_MIN_SCALE = 1e-3
_ROUNDING = 1e-6  # so that a row whose margin is the threshold passes


def fit_thresholds(
    similarities: NDArray[np.floating],
    of_task: NDArray[np.integer],
    outside: NDArray[np.floating] | None = None,
    recall: float = RECALL,
) -> tuple[list[float], float]:
    """A threshold for each task, so that a share of all rows passes, and their common scale.

    One threshold for all tasks separates best, but a task whose rows differ much would lose most of what is lost: each
    task with rows has its own for a quarter.

    Args:
        similarities: [n_rows, n_tasks], of rows that should pass to every task.
        of_task: [n_rows], the task of each row.
        outside: [n_queries, n_tasks], of queries that should not pass. The thresholds are as high as `recall` allows,
            or lower where that separates the two better.
        recall: the share of the rows that passes at least.
    """
    rows = np.arange(len(of_task))
    own = similarities[rows, of_task].astype(np.float64)
    common = np.quantile(own, 1 - recall)
    thresholds = np.full(similarities.shape[1], common)
    for task in np.unique(of_task):
        thresholds[task] += _OWN * (np.quantile(own[of_task == task], 1 - recall) - common)
    margins = (similarities - thresholds).max(axis=1)
    deviation = max(float((own - thresholds[of_task]).std()), _MIN_SCALE)
    few = float(margins.mean()) - _DEVIATIONS * float(margins.std())  # of few rows the smallest says little
    highest = min(float(np.quantile(margins, 1 - recall)), few if len(rows) < _FEW else np.inf)
    if outside is not None and len(outside):
        highest = _best_separation(margins, (outside - thresholds).max(axis=1), highest)
    thresholds += highest
    return [float(threshold) for threshold in thresholds], deviation


def _best_separation(margins: NDArray[np.floating], outside: NDArray[np.floating], highest: float) -> float:
    """The shift, at most the `highest`, above which most rows and fewest outside queries lie; of those alike the
    highest."""
    lower = np.unique(margins[margins < highest]) - _ROUNDING
    shifts = [highest, *reversed(lower.tolist())]
    gains = [float((margins >= shift).mean() - (outside >= shift).mean()) for shift in shifts]
    return float(shifts[int(np.argmax(gains))])
