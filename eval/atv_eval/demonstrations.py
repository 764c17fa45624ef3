"""Rows to show in a prompt: what the prompting baselines get and steering does without."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np


class Demonstration(Protocol):
    """A row that can be shown."""

    @property
    def input(self) -> str:
        """The query."""

    @property
    def output(self) -> str:
        """The right answer."""


R = TypeVar("R", bound=Demonstration)


def balanced(pool: Sequence[R], n: int, seed: int) -> list[R]:
    """`n` rows in which every answer occurs as often as the others, as far as the pool has them, in random order."""
    seen: Counter[str] = Counter()
    rank = []
    for row in pool:
        rank.append(seen[row.output])
        seen[row.output] += 1
    picked = [pool[i] for i in sorted(range(len(pool)), key=rank.__getitem__)[:n]]
    random.Random(seed).shuffle(picked)
    return picked


class BM25(Generic[R]):
    """Okapi BM25 over the inputs of a pool, with Lucene's weights."""

    def __init__(self, pool: Sequence[R], k1: float = 1.5, b: float = 0.75) -> None:
        self.pool = pool
        counts = [Counter(words(row.input)) for row in pool]
        mean = sum(count.total() for count in counts) / len(counts)
        n_with = Counter(word for count in counts for word in count)
        self.weights: list[dict[str, float]] = []
        for count in counts:
            soft = k1 * (1 - b + b * count.total() / max(mean, 1))
            idf = {word: math.log(1 + (len(pool) - n_with[word] + 0.5) / (n_with[word] + 0.5)) for word in count}
            self.weights.append({word: idf[word] * n / (n + soft) for word, n in count.items()})

    def nearest(self, query: str, n: int) -> list[R]:
        """The `n` most similar rows, the most similar last."""
        terms = words(query)
        scores = [sum(weight.get(word, 0.0) for word in terms) for weight in self.weights]
        return [self.pool[i] for i in np.argsort(scores, kind="stable")[max(0, len(scores) - n) :]]


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"\w+", text.lower())
