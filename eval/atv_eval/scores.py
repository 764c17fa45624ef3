"""Scores of answers, by task and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atv_eval.answer_records import EvalRecord
from atv_eval.methods import Method
from atv_eval.statistics import Difference, Estimate, difference, macro_f1, mean_over_tasks

MEAN = "mean of tasks"


@dataclass(frozen=True)
class MethodScore:
    """One method on one task, or on the mean of all."""

    task: str
    method: Method
    rows: int
    exact: Estimate
    """Share of greedy answers that are right."""
    choice: Estimate | None
    """Share of rows whose right choice is the most likely one, where all rows have choices."""
    f1: Estimate | None
    """Macro-F1 of the greedy answers; of a task."""
    prompt_tokens: float
    evaluated_tokens: float
    """Tokens of prompt and answer, without the beginning that a method's prompts share; mean of rows."""
    dropped: float
    """Demonstrations that did not fit, mean of rows."""
    errors: int


def score_methods(records: Sequence[EvalRecord]) -> list[MethodScore]:
    """Every task and method, and the mean of the tasks for each method where there are several."""
    scores = []
    methods = sorted({r.method for r in records}, key=list(Method).index)
    tasks = list(dict.fromkeys(r.task for r in records))
    for method in methods:
        rows = {task: [r for r in records if r.task == task and r.method == method] for task in tasks}
        rows = {task: some for task, some in rows.items() if some}
        scores += [_score(task, method, {task: some}) for task, some in rows.items()]
        if len(rows) > 1:
            scores.append(_score(MEAN, method, rows))
    return scores


def differences(records: Sequence[EvalRecord]) -> dict[Method, dict[str, Difference]]:
    """The advantage of steering over each other method, on the rows that both answered."""
    ours = {r.key[:2]: r for r in records if r.method is Method.STEERED}
    by_method: dict[Method, dict[str, Difference]] = {}
    for method in (Method.BASE, Method.SHOTS, Method.BM25):
        theirs = [r for r in records if r.method is method and r.key[:2] in ours]
        if theirs:
            pairs = [[ours[r.key[:2]] for r in theirs], theirs]
            by_method[method] = {"exact": difference(*(_hits(side, _exact) for side in pairs))}
            if all(r.n_choices > 0 for side in pairs for r in side):
                by_method[method]["choice"] = difference(*(_hits(side, _choice) for side in pairs))
    return by_method


def _score(task: str, method: Method, tasks: Mapping[str, Sequence[EvalRecord]]) -> MethodScore:
    every = [record for records in tasks.values() for record in records]
    all_choose = all(record.n_choices > 0 for record in every)
    one = next(iter(tasks.values()))
    labelled = len(tasks) == 1 and len({record.output for record in one}) * 2 <= len(one)
    return MethodScore(
        task=task,
        method=method,
        rows=len(every),
        exact=mean_over_tasks(_hits(every, _exact)),
        choice=mean_over_tasks(_hits(every, _choice)) if all_choose else None,
        f1=macro_f1([r.output for r in one], [r.matched for r in one]) if labelled else None,
        prompt_tokens=float(np.mean([r.prompt_tokens for r in every])),
        evaluated_tokens=float(np.mean([r.evaluated_tokens for r in every])),
        dropped=float(np.mean([r.dropped for r in every])),
        errors=sum(r.error is not None for r in every),
    )


def _hits(records: Sequence[EvalRecord], hit: Callable[[EvalRecord], bool]) -> dict[str, NDArray[np.float64]]:
    tasks: dict[str, list[float]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(float(hit(record)))
    return {task: np.array(hits) for task, hits in tasks.items()}


def _exact(record: EvalRecord) -> bool:
    return record.matched == record.output


def _choice(record: EvalRecord) -> bool:
    return record.chosen == record.output
