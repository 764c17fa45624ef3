"""Thresholds of a gate: most rows pass, and queries outside help where they separate."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atv_local.generator import RECALL, fit_thresholds


@given(seed=st.integers(0, 50), n_tasks=st.integers(1, 4), n_rows=st.integers(1, 300))
def test_nearly_all_validation_rows_pass(seed: int, n_tasks: int, n_rows: int) -> None:
    random = np.random.default_rng(seed)
    of_task = random.integers(0, n_tasks, n_rows)
    similarities = random.normal(0.2, 0.1, (n_rows, n_tasks))
    similarities[np.arange(n_rows), of_task] += random.uniform(0.2, 0.6, n_tasks)[of_task]
    thresholds, scale = fit_thresholds(similarities, of_task)
    assert ((similarities - thresholds).max(axis=1) >= -1e-9).mean() >= RECALL - 1 / n_rows
    assert scale > 0


def test_of_few_rows_the_threshold_lies_below_the_lowest() -> None:
    similarities = np.array([[0.8], [0.82], [0.9]])
    (threshold,), _ = fit_thresholds(similarities, np.zeros(3, int))
    assert threshold < 0.8


@given(seed=st.integers(0, 50), n_rows=st.integers(1, 200), recall=st.floats(0.5, 1), gap=st.floats(-0.5, 0.5))
def test_queries_outside_never_cost_more_rows_than_the_recall_allows(
    seed: int, n_rows: int, recall: float, gap: float
) -> None:
    random = np.random.default_rng(seed)
    of_task = random.integers(0, 2, n_rows)
    similarities, outside = random.normal(0.5 + gap, 0.1, (n_rows, 2)), random.normal(0.5, 0.1, (40, 2))
    alone, _ = fit_thresholds(similarities, of_task, outside, recall=recall)
    thresholds, _ = fit_thresholds(similarities, of_task, outside, recall=recall, separate=True)

    def gain(found: list[float]) -> float:
        rows, others = ((side - found).max(axis=1) >= -1e-9 for side in (similarities, outside))
        return float(rows.mean() - others.mean())

    assert ((similarities - thresholds).max(axis=1) >= -1e-9).mean() >= recall - 1 / n_rows
    assert gain(thresholds) >= gain(alone) - 1e-9


def test_where_all_rows_lie_above_the_queries_outside_all_pass_and_none_of_those() -> None:
    rows, outside = np.linspace(0.6, 0.9, 200)[:, None], np.linspace(0.1, 0.5, 50)[:, None]
    (threshold,), _ = fit_thresholds(rows, np.zeros(200, int), outside, separate=True)
    assert 0.59 < threshold <= 0.6
    (alone,), _ = fit_thresholds(rows, np.zeros(200, int), outside)
    assert alone > 0.6


def test_of_few_rows_the_threshold_is_nearer_to_the_queries_outside_than_to_the_rows() -> None:
    rows, outside = np.array([[0.8], [0.82], [0.9]]), np.linspace(0.1, 0.2, 50)[:, None]
    (threshold,), _ = fit_thresholds(rows, np.zeros(3, int), outside)
    assert 0.2 < threshold < 0.4


def test_a_task_of_few_rows_loses_none_to_a_task_of_many_where_nothing_outside_is_near() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(0.8, 0.02, 300), random.normal(0.6, 0.05, 20)])
    of_task = np.repeat([0, 1], [300, 20])
    similarities = np.full((320, 2), 0.1)
    similarities[np.arange(320), of_task] = rows
    far, near = np.full((50, 2), 0.2), np.full((50, 2), 0.55)
    (_, apart), _ = fit_thresholds(similarities, of_task, far)
    (_, beside), _ = fit_thresholds(similarities, of_task, near)
    assert (rows[300:] >= apart).mean() >= 0.95
    assert beside > 0.55
