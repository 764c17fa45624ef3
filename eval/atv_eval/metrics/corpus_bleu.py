"""BLEU, which is of all rows together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atv_eval.statistics import RESAMPLES, Estimate


def bleu(answers: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0) -> Estimate:
    """BLEU of sacrebleu from 0 to 1, with a percentile bootstrap over rows."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)  # which only silences a warning about single sentences
    rows = [metric.sentence_score(answer, list(right)) for answer, right in zip(answers, references, strict=True)]
    counts = np.array([[*row.counts, *row.totals, row.sys_len, row.ref_len] for row in rows], dtype=np.int64)

    def of(total: NDArray[np.int64]) -> float:
        orders = metric.max_ngram_order
        correct, possible, (ours, right) = np.split(total, [orders, 2 * orders])
        score = metric.compute_bleu(correct.tolist(), possible.tolist(), int(ours), int(right), smooth_method="exp")
        return float(score.score) / 100

    rng = np.random.default_rng(seed)
    n = len(rows)
    draws = [of(counts[rng.integers(n, size=n)].sum(axis=0)) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, (2.5, 97.5))
    value = of(counts.sum(axis=0))
    return Estimate(value, min(value, float(low)), max(value, float(high)))
