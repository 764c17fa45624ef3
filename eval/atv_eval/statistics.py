"""Accuracy, macro-F1, their intervals, and whether two methods differ. Knows rows by their hits alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_N = TypeVar("_N", np.float64, np.int64)
Hits = Mapping[str, NDArray[np.float64]]
"""Task to one value a row."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """As in `84.1 [79.0, 88.5]`."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Difference(Estimate):
    """Of two methods on the same rows, with the p-value of a paired test."""

    p: float


def mean_over_tasks(hits: Hits, seed: int = 0) -> Estimate:
    """The mean of the tasks' means; the percentile bootstrap draws rows within each task."""
    values = list(hits.values())
    drawn = [_resampled(task, lambda sample: sample.mean(axis=1), seed + n) for n, task in enumerate(values)]
    return _estimate(float(np.mean([task.mean() for task in values])), np.mean(drawn, axis=0))


def macro_f1(gold: Sequence[str], predicted: Sequence[str | None], seed: int = 0) -> Estimate:
    """The unweighted mean of F1 over the labels that occur in `gold`; a prediction of no label is wrong."""
    labels = {label: index for index, label in enumerate(sorted(set(gold)))}
    pairs = np.array([(labels[a], labels.get(b or "", len(labels))) for a, b in zip(gold, predicted, strict=True)])

    def of(samples: NDArray[np.int64]) -> NDArray[np.float64]:
        scores, seen = np.zeros(len(samples)), np.zeros(len(samples))
        for label in range(len(labels)):
            is_gold, is_found = samples[..., 0] == label, samples[..., 1] == label
            hit = (is_gold & is_found).sum(axis=1)
            total = is_gold.sum(axis=1) + is_found.sum(axis=1)
            scores += np.divide(2 * hit, total, out=np.zeros(len(samples)), where=total > 0)
            seen += is_gold.any(axis=1)
        return scores / np.maximum(seen, 1)

    return _estimate(float(of(pairs[None])[0]), _resampled(pairs, of, seed))


def difference(ours: Hits, theirs: Hits) -> Difference:
    """Mean over tasks of ours minus theirs, row by row; p is of the exact McNemar test over all rows."""
    estimate = mean_over_tasks({task: hits - theirs[task] for task, hits in ours.items()})
    signs = np.concatenate([hits - theirs[task] for task, hits in ours.items()])
    return Difference(
        estimate.value, estimate.low, estimate.high, mcnemar(int((signs > 0).sum()), int((signs < 0).sum()))
    )


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p-value of so many wins and losses if either were as likely (exact binomial)."""
    n, k = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / (1 << n))


def _resampled(
    rows: NDArray[_N], statistic: Callable[[NDArray[_N]], NDArray[np.float64]], seed: int
) -> NDArray[np.float64]:
    """The statistic of many samples of as many rows, drawn with replacement, a hundred samples at a time."""
    rng = np.random.default_rng(seed)
    parts = [statistic(rows[rng.integers(len(rows), size=(100, len(rows)))]) for _ in range(RESAMPLES // 100)]
    return np.concatenate(parts)


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(value, float(low), float(high))
