"""Scores of answers, by task and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atv_eval.answer_records import EvalRecord
from atv_eval.eval_task import Task, right_answers
from atv_eval.methods import Method
from atv_eval.metrics import Metric, bleu
from atv_eval.statistics import Difference, Estimate, difference, macro_f1, mean_over_tasks

MEAN = "mean of tasks"
MAIN = "main"
"""The name of a score that is each task's main metric."""


@dataclass(frozen=True)
class MethodScore:
    """One method on one task, or on the mean of all."""

    task: str
    method: Method
    rows: int
    metric: Metric | None
    """The main metric; None for the mean of tasks that have different ones."""
    main: Estimate
    """The main metric, or the mean of the tasks' main metrics."""
    scores: Mapping[Metric, Estimate]
    """Every metric of the task; for the mean of tasks those that each row of every task has."""
    prompt_tokens: float
    evaluated_tokens: float
    """Tokens of prompt and answer, without the beginning that a method's prompts share; mean of rows."""
    dropped: float
    """Demonstrations that did not fit, mean of rows."""
    errors: int


def score_methods(records: Sequence[EvalRecord], tasks: Sequence[Task]) -> list[MethodScore]:
    """Every task and method, and where there are several tasks, the mean for each method that has answered them all."""
    scores = []
    by_place: dict[tuple[Method, str], list[EvalRecord]] = {}
    for record in records:
        by_place.setdefault((record.method, record.task), []).append(record)
    for method in Method:
        answered = [task for task in tasks if (method, task.name) in by_place]
        scores += [_task_score(task, method, by_place[method, task.name]) for task in answered]
        if len(answered) == len(tasks) > 1:
            scores.append(_mean_score(answered, method, [by_place[method, task.name] for task in answered]))
    return scores


def differences(records: Sequence[EvalRecord], tasks: Sequence[Task]) -> dict[Method, dict[str, Difference]]:
    """The advantage of steering over each other method, on the rows that both answered.

    For each method it is that of the tasks' main metrics (`MAIN`), and of every metric that all these rows have.
    """
    ours = {r.key[:2]: r for r in records if r.method is Method.STEERED}
    by_method: dict[Method, dict[str, Difference]] = {}
    for method in Method:
        theirs = [r for r in records if r.method is method and r.key[:2] in ours and r.method is not Method.STEERED]
        if theirs:
            pairs = [[ours[r.key[:2]] for r in theirs], theirs]
            named = {MAIN: _main(tasks)} | {metric.value: _of(metric) for metric in _common(theirs)}
            by_method[method] = {
                name: difference(*(_values(side, score) for side in pairs)) for name, score in named.items()
            }
    return by_method


_Score = Callable[[EvalRecord], float]


def _main(tasks: Sequence[Task]) -> _Score:
    metrics = {task.name: task.main for task in tasks}
    return lambda record: record.scores[metrics[record.task]]


def _of(metric: Metric) -> _Score:
    return lambda record: record.scores[metric]


def _common(records: Sequence[EvalRecord]) -> list[Metric]:
    """The metrics that every record has."""
    return [metric for metric in Metric if all(metric in record.scores for record in records)]


def _task_score(task: Task, method: Method, records: Sequence[EvalRecord]) -> MethodScore:
    scores: dict[Metric, Estimate] = {}
    for metric in Metric:
        if metric not in task.metrics:
            continue
        if metric is Metric.MACRO_F1:
            scores[metric] = macro_f1([r.output for r in records], [r.matched for r in records])
        elif metric is Metric.BLEU:
            scores[metric] = bleu([r.answer for r in records], [right_answers(task.rows[r.row]) for r in records])
        else:
            scores[metric] = mean_over_tasks(_values(records, _of(metric)))
    return _score(task.name, method, records, task.main, scores[task.main], scores)


def _mean_score(tasks: Sequence[Task], method: Method, by_task: Sequence[Sequence[EvalRecord]]) -> MethodScore:
    every = [record for records in by_task for record in records]
    scores = {metric: mean_over_tasks(_values(every, _of(metric))) for metric in _common(every)}
    metrics = {task.main for task in tasks}
    main = mean_over_tasks(_values(every, _main(tasks)))
    return _score(MEAN, method, every, metrics.pop() if len(metrics) == 1 else None, main, scores)


def _score(
    task: str,
    method: Method,
    records: Sequence[EvalRecord],
    metric: Metric | None,
    main: Estimate,
    scores: Mapping[Metric, Estimate],
) -> MethodScore:
    return MethodScore(
        task=task,
        method=method,
        rows=len(records),
        metric=metric,
        main=main,
        scores=scores,
        prompt_tokens=float(np.mean([r.prompt_tokens for r in records])),
        evaluated_tokens=float(np.mean([r.evaluated_tokens for r in records])),
        dropped=float(np.mean([r.dropped for r in records])),
        errors=sum(r.error is not None for r in records),
    )


def _values(records: Sequence[EvalRecord], score: _Score) -> dict[str, NDArray[np.float64]]:
    tasks: dict[str, list[float]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(score(record))
    return {task: np.array(values) for task, values in tasks.items()}
