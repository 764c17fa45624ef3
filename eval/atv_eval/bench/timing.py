"""Timing several functions in turn, and the ratios of their times.

The speed of a machine changes during a measurement. Functions to compare are therefore called alternately, and ratios
are taken between neighbouring calls.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

Measure = Callable[[], float]
"""Does something once and says what it took, in a unit of its own."""

Samples = dict[str, list[float]]


class Spread(NamedTuple):
    """The middle of some samples."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


def in_turn(measures: Mapping[str, Measure], rounds: int, warm: Collection[str] | None = None) -> Samples:
    """`rounds` samples of each measure, one of each in every round, every other round backwards.

    Args:
        warm: the measures to run once before, by default all.
    """
    for name in measures if warm is None else warm:
        measures[name]()
    samples: Samples = {name: [] for name in measures}
    for turn in range(rounds):
        for name in list(measures)[:: -1 if turn % 2 else 1]:
            samples[name].append(measures[name]())
    return samples


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Each value of `above` divided by that of `below` in the same round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles; of a single sample all three are the same."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high)
