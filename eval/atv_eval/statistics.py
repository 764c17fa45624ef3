"""Means of scores, macro-F1, their intervals, and whether two methods differ. Knows rows by their scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SIGNIFICANT = 0.05
"""The p-value below which a difference is called one."""
RESAMPLES = 2000
PERMUTATIONS = 10_000
_PRIOR_ROWS = 8  # measured: means from 0.1 to 0.9 of 30 rows are then in their interval 91 to 99 times in 100
_Z = NormalDist().inv_cdf(0.975)
_Z_FOUND = _Z + NormalDist().inv_cdf(0.8)  # standard errors of a difference that has p < 0.05 in four of five tries
Hits = Mapping[str, NDArray[np.float64]]
"""From task to one value in 0 to 1 for each row, such as 1 where the answer is right."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """The estimate in percent, such as `84.1 [79.0, 88.5]`."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Difference(Estimate):
    """The difference of two methods on the same rows, with the p-value of a paired test."""

    p: float
    detectable: float | None
    """The smallest true difference that would be found, with p < 0.05, in four of five tries with as many rows; None if
    that is more than scores can differ."""

    @property
    def clear(self) -> bool:
        """Whether p is below 0.05."""
        return self.p < SIGNIFICANT


def mean_over_tasks(hits: Hits) -> Estimate:
    """The mean of the tasks' means, with Wilson's score interval at the effective number of rows.

    For one task of zeros and ones that is Wilson's own interval. It does not shrink to a point where all rows are right
    or all are wrong, as a bootstrap's does. Scores between 0 and 1 spread less; as few rows say
    little about how much less, `_PRIOR_ROWS` rows in all that are as far off as the farthest are counted beside them.
    """
    tasks = list(hits.values())
    value = float(np.mean([task.mean() for task in tasks]))
    spreads = [_cautious_spread(task, _PRIOR_ROWS / len(tasks)) for task in tasks]
    n = _effective_rows([len(task) for task in tasks], spreads, value * (1 - value))
    scale = 1 + _Z**2 / n
    middle = (value + _Z**2 / (2 * n)) / scale
    half = _Z / scale * sqrt(value * (1 - value) / n + (_Z / (2 * n)) ** 2)
    return Estimate(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def _cautious_spread(scores: NDArray[np.float64], n_more: float) -> float:
    """The variance of scores and `n_more` others that are as far from the mean as the farthest; of zeros and ones it is
    their own."""
    mean = float(scores.mean())
    farthest = min(float(np.abs(scores - mean).max()) ** 2, mean * (1 - mean))
    return float(len(scores) * scores.var() + n_more * farthest) / (len(scores) + n_more)


def _effective_rows(counts: Sequence[int], spreads: Sequence[float], variance: float) -> float:
    """How many independent rows of this variance would leave the mean of the tasks' means as uncertain as it is.

    Rows are drawn within each task; with few rows a task their spread is corrected for the task's mean. For one task
    of zeros and ones this is the number of rows; without any spread it counts the rows alone.

    Args:
        counts: the rows of each task.
        spreads: the variance of each task's rows.
        variance: of all rows.
    """
    n_rows, n_tasks = sum(counts), len(counts)
    of_mean = sum(spread / max(1, n - 1) for n, spread in zip(counts, spreads, strict=True))
    of_mean *= (n_rows - 1) / n_rows / n_tasks**2
    if variance > 0 and of_mean > 0:
        return float(variance / of_mean)
    return n_tasks**2 / sum(1 / n for n in counts)


def macro_f1(gold: Sequence[str], predicted: Sequence[str | None], seed: int = 0) -> Estimate:
    """The unweighted mean of F1 over the labels in `gold`, with a percentile bootstrap over rows.

    A prediction that is not a label is wrong. If all rows are right, or all are wrong, every resample is the same; then
    the interval is Wilson's for the share of right rows, which has the same value.
    """
    hits = np.array([a == b for a, b in zip(gold, predicted, strict=True)], dtype=np.float64)
    if hits.min() == hits.max():
        return mean_over_tasks({"": hits})
    labels = {label: index for index, label in enumerate(sorted(set(gold)))}
    pairs = np.array([(labels[a], labels.get(b or "", len(labels))) for a, b in zip(gold, predicted, strict=True)])

    def f1(samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Macro-F1 of each of the samples [n, rows, 2]."""
        scores, seen = np.zeros(len(samples)), np.zeros(len(samples))
        for label in range(len(labels)):
            is_gold, is_predicted = samples[..., 0] == label, samples[..., 1] == label
            hit = (is_gold & is_predicted).sum(axis=1)
            total = is_gold.sum(axis=1) + is_predicted.sum(axis=1)
            scores += np.divide(2 * hit, total, out=np.zeros(len(samples)), where=total > 0)
            seen += is_gold.any(axis=1)
        return scores / np.maximum(seen, 1)

    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(pairs), size=(100, len(pairs))) for _ in range(RESAMPLES // 100))  # bounds the memory
    low, high = np.percentile(np.concatenate([f1(pairs[rows]) for rows in draws]), (2.5, 97.5))
    return Estimate(float(f1(pairs[None])[0]), float(low), float(high))


def difference(ours: Hits, theirs: Hits) -> Difference:
    """Mean over tasks of ours minus theirs, row by row.

    p is that of the exact McNemar test where each row is right or wrong and counts as much as any other, else of a
    permutation test: a row of a task with more rows counts for less. The interval is Bonett and Price's (2012), Wald's
    with one row more that each side wins, by the largest difference that a row has, at the effective number of rows; so
    it does not shrink to a point where no row differs.
    """
    tasks = [hits - theirs[task] for task, hits in ours.items()]
    rows = np.concatenate(tasks)
    largest = float(np.abs(rows).max()) or 1.0
    value, square = (float(np.mean([((task / largest) ** power).mean() for task in tasks])) for power in (1, 2))
    size = float(np.mean([np.abs(task / largest).mean() for task in tasks]))
    spreads = [float((task / largest).var()) for task in tasks]
    n = _effective_rows([len(task) for task in tasks], spreads, square - value**2)
    middle = n * value / (n + 2)
    size, square = ((n * moment + 2) / (n + 2) for moment in (size, square))
    half = _Z * sqrt((square - middle**2) / (n + 2))
    detectable = largest * _detectable(n + 2, abs(middle), size, square)
    low, high = (max(-1.0, min(1.0, largest * end)) for end in (middle - half, middle + half))
    alike = len(set(map(len, tasks))) == 1 and bool(np.isin(rows, (-1, 0, 1)).all())
    p = mcnemar(int((rows > 0).sum()), int((rows < 0).sum())) if alike else permutation(tasks)
    return Difference(largest * value, low, high, p, detectable if detectable <= 1 else None)


def _detectable(n: float, value: float, size: float, square: float) -> float:
    """The true difference D that is `_Z_FOUND` of its own standard errors.

    Args:
        n: effective rows.
        value: how far the mean of the rows' differences is from 0.
        size: the mean of their sizes.
        square: the mean of their squares.
    """
    # In simulations with shares of 30 to 1000 rows it is found in 7 to 9 of 10 tries; with the standard error of the
    # interval it would be in 2 to 7, since for D to be true more rows must differ, which adds to its variance. So the
    # side that is behind has what it has now, the other has more by what D needs, and rows that differ do so by as
    # much as now: D^2 = step * (size - value + D).
    step = _Z_FOUND**2 / n * square / size
    return step / 2 + sqrt(step**2 / 4 + step * (size - value))


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p-value of so many wins and losses if either were as likely (exact binomial)."""
    n, k = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / (1 << n))


def permutation(differences: Sequence[NDArray[np.float64]], seed: int = 0) -> float:
    """Two-sided p-value of the mean over tasks of the rows' differences, if each could as well have the other sign.

    It is estimated from random signs, so it is not below 1 / (`PERMUTATIONS` + 1).
    """
    weighted = np.concatenate([task / (len(task) * len(differences)) for task in differences])
    observed = abs(float(weighted.sum()))
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in range(PERMUTATIONS // 100):  # bounds the memory
        signs = rng.integers(0, 2, size=(100, len(weighted)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ weighted) >= observed - 1e-12).sum())
    return (extreme + 1) / (PERMUTATIONS + 1)
