"""Searches for the strength and layers with the best answers within a budget of harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from atv_eval.asked_rows import asked_row
from atv_eval.eval_plan import EvalPlan
from atv_eval.eval_task import Task
from atv_eval.harm import Harm, measure_harm
from atv_eval.methods import Method
from atv_eval.questions import QuestionBuilder
from atv_eval.statistics import Estimate, mean_over_tasks
from atv_local.answer import Engine
from atv_local.batch import Batch, SteeredPrompt
from atv_local.data import Row
from atv_local.vectors import Steering

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class SteeringResult:
    """The score and the harm of one steering."""

    steering: Steering
    score: Estimate
    """The mean of the tasks' main metrics."""
    harm: Harm

    def rank(self, budget: float) -> tuple[bool, float, float]:
        """For sorting, best first: within the budget by score, then by KL; beyond it the smallest KL first."""
        kl = self.harm.kl
        return (False, -self.score.value, kl) if kl <= budget else (True, kl, 0.0)


def search_steering(
    engine: Engine,
    tasks: Sequence[Task],
    queries: Sequence[str],
    *,
    budget: float,
    strengths: Sequence[float] = STRENGTHS,
    search_layers: bool = True,
    on_message: Callable[[str], None] = lambda _: None,
) -> list[SteeringResult]:
    """All strengths with the layers of training; then ranges of layers at the two strengths of the best rank.

    Args:
        queries: unrelated to the tasks.
        budget: KL in nats per token, for the rank.

    Raises:
        AtvError: a query that cannot be evaluated.
    """
    on_message(f"measuring {_counted(len(strengths), 'strength')}")
    trained = engine.generator.bundle.trained_layers if engine.generator else None
    results = _measure(
        engine, tasks, queries, [replace(engine.steering, layers=trained, strength=strength) for strength in strengths]
    )
    if search_layers:
        whole = trained or (1, engine.target.n_rows)
        ranges = [layers for layers in _ranges(whole) if layers != whole]
        best = sorted(results, key=lambda result: result.rank(budget))[:2]
        on_message(f"measuring {_counted(len(ranges), 'range')} of layers at {_counted(len(best), 'strength')}")
        narrowed = [replace(result.steering, layers=layers) for result in best for layers in ranges]
        results += _measure(engine, tasks, queries, narrowed)
    return results


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _ranges(layers: tuple[int, int]) -> list[tuple[int, int]]:
    """Ranges of at least half the layers, by quarters."""
    first, last = layers
    quarter = (last - first + 1) / 4
    ranges = [
        (first + round(begin * quarter), first + round(end * quarter) - 1)
        for begin in range(3)
        for end in range(begin + 2, 5)
    ]
    return [pair for pair in dict.fromkeys(ranges) if pair[0] <= pair[1]]


def _measure(
    engine: Engine, tasks: Sequence[Task], queries: Sequence[str], steerings: Sequence[Steering]
) -> list[SteeringResult]:
    if not steerings:
        return []
    harms = measure_harm(engine, queries, steerings)
    plan = EvalPlan(tasks, [Method.STEERED], steerings[0])
    scores: list[dict[str, list[float]]] = [{} for _ in steerings]

    def ways(task: str, row: Row) -> list[SteeredPrompt]:
        vector = engine.gated(asked_row(engine, steerings[0], task, row)).vector
        return [SteeredPrompt.of(steering, vector) for steering in steerings]

    questions = (
        replace(question, options=(), ways=ways(question.tag.keys[0].task, question.tag.row))
        for question in QuestionBuilder(plan, engine).questions({})
    )
    by_name = {task.name: task for task in tasks}
    for reply in Batch(engine).ask(questions):
        if reply.error:
            raise reply.error
        (key,), row = reply.question.tag.keys, reply.question.tag.row
        task = by_name[key.task]
        for of_steering, outcome in zip(scores, reply.outcomes, strict=True):
            of_steering.setdefault(key.task, []).append(task.score(row, outcome.text, None)[task.main])
    return [
        SteeringResult(
            steering, mean_over_tasks({task: np.array(values) for task, values in of_steering.items()}), harm
        )
        for steering, of_steering, harm in zip(steerings, scores, harms, strict=False)
    ]
