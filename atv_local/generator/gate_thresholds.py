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
_USUAL, _RARE = 0.9, 0.975
_TOWARDS_OUTSIDE = 0.75
_MIN_SCALE = 1e-3
_ROUNDING = 1e-6  # so that a row whose margin is the threshold passes


def fit_thresholds(
    similarities: NDArray[np.floating],
    of_task: NDArray[np.integer],
    outside: NDArray[np.floating] | None = None,
    *,
    recall: float = RECALL,
    separate: bool = False,
) -> tuple[list[float], float]:
    """A threshold for each task, so that a share of all rows passes, and their common scale.

    One threshold for all tasks separates best, but a task whose rows differ much would lose most of what is lost: each
    task with rows has its own for a quarter. The smallest similarities of few rows say little: a task with fewer than
    100 has a threshold at most two standard deviations below their mean, as far as few queries outside pass.

    Args:
        similarities: [n_rows, n_tasks], of rows that should pass to every task.
        of_task: [n_rows], the task of each row.
        outside: [n_queries, n_tasks], of queries that should not pass. Where rows are fewer than 100, whose smallest
            similarities say little, no threshold is above three quarters of the way down from the rows' mean to these.
        recall: the share of the rows that passes at least.
        separate: lower the thresholds, which else are as high as `recall` allows, where more rows pass for it than
            queries outside, in shares.
    """
    rows = np.arange(len(of_task))
    own = similarities[rows, of_task].astype(np.float64)
    common = np.quantile(own, 1 - recall)
    thresholds = np.full(similarities.shape[1], common)
    for task in np.unique(of_task):
        thresholds[task] += _OWN * (np.quantile(own[of_task == task], 1 - recall) - common)
    margins = (similarities - thresholds).max(axis=1)
    deviation = max(float((own - thresholds[of_task]).std()), _MIN_SCALE)
    beyond = np.zeros(0) if outside is None or not len(outside) else (outside - thresholds).max(axis=1)
    shift = float(np.quantile(margins, 1 - recall))
    if len(rows) < _FEW:
        mean = float(margins.mean())
        shift = min(shift, mean - _DEVIATIONS * float(margins.std()))
        if len(beyond):
            shift = min(shift, mean - _TOWARDS_OUTSIDE * (mean - float(np.quantile(beyond, _USUAL))))
    if separate and len(beyond):
        shift = _best_separation(margins, beyond, shift)
    thresholds += shift
    if len(beyond):
        _lower_for_few(thresholds, own, of_task, np.asarray(outside))
    return [float(threshold) for threshold in thresholds], deviation


def _lower_for_few(
    thresholds: NDArray[np.floating],
    own: NDArray[np.floating],
    of_task: NDArray[np.integer],
    outside: NDArray[np.floating],
) -> None:
    for task in np.unique(of_task):
        found = own[of_task == task]
        if len(found) < _FEW:
            lowest = found.mean() - _DEVIATIONS * found.std()
            thresholds[task] = min(thresholds[task], max(lowest, np.quantile(outside[:, task], _RARE) + _ROUNDING))


def _best_separation(margins: NDArray[np.floating], outside: NDArray[np.floating], highest: float) -> float:
    """The shift, at most the `highest`, above which most rows and fewest outside queries lie; of those alike the
    highest."""
    lower = np.unique(margins[margins < highest]) - _ROUNDING
    shifts = [highest, *reversed(lower.tolist())]
    gains = [float((margins >= shift).mean() - (outside >= shift).mean()) for shift in shifts]
    return float(shifts[int(np.argmax(gains))])
