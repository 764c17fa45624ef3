"""The result of an evaluation in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atv_eval.methods import Method
from atv_eval.scores import MAIN, MEAN, MethodScore
from atv_eval.statistics import Difference
from atv_local.text import counted

MIN_ROWS = 8
"""Rows below which nothing is called better or worse: with five of them no difference has a p below 0.05."""


def verdict(
    scores: Sequence[MethodScore], differences: Mapping[Method, Mapping[str, Difference]], n_shots: int
) -> str | None:
    """Steering beside the best alternative that answered the same tasks; None without both.

    Args:
        scores: of `score_methods`.
        differences: of `differences`.
        n_shots: rows that k-shot and bm25 show.
    """
    overall = overall_scores(scores)
    steered = overall.pop(Method.STEERED, None)
    if steered is None or not overall:
        return None
    best = max(overall.values(), key=lambda score: score.main.value)
    gap = differences[best.method][MAIN]
    name = f"{best.method} with {counted(n_shots, 'row')}" if best.method.shows else str(best.method)
    partial = len(differences) > len(overall)
    name = f"{' that answered all tasks' if partial else ''}, {name}"
    what = steered.metric.heading if steered.metric else "the tasks' main metrics"
    certainty = f"({p_value(gap.p)}, {counted(steered.rows, 'row')})"
    if steered.rows < MIN_ROWS:
        return (
            f"Too few rows to tell steering from the best alternative{name}: {_points(gap, 1)} of {what} {certainty}."
        )
    if not gap.clear:
        least = "no difference" if gap.detectable is None else f"a difference of {100 * gap.detectable:.1f} points"
        return (
            f"No clear difference between steering and the best alternative{name}: "
            f"{_points(gap, 1)} of {what} {certainty}; {least} would have been found in four of five tries."
        )
    sign, word = (1, "better") if gap.value > 0 else (-1, "worse")
    return f"Steering is {_points(gap, sign)} of {what} {word} than the best alternative{name} {certainty}."


def _points(gap: Difference, sign: int) -> str:
    value, *ends = (100 * sign * end for end in (gap.value, gap.low, gap.high))
    low, high = sorted(ends)
    return f"{value:.1f} points [{low:.1f}, {high:.1f}]"


def overall_scores(scores: Sequence[MethodScore]) -> dict[Method, MethodScore]:
    """For each method that answered all tasks the mean of the tasks, or the score of the only one."""
    several = len({score.task for score in scores} - {MEAN}) > 1
    return {score.method: score for score in scores if not several or score.task == MEAN}


def p_value(p: float) -> str:
    """Such as `p = 0.031`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
