"""Chooses one of several instructions for a task, on the rows to show and never on those to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atv_eval.demonstrations import balanced
from atv_eval.eval_task import Task
from atv_eval.instructions import Instructions
from atv_local.answer import Engine
from atv_local.batch import Batch, BatchQuestion
from atv_local.data import Row, tell

N_ROWS = 16
"""Rows on which instructions are compared."""


def choose_wordings(
    sentences: Mapping[str, Sequence[str]], tasks: Sequence[Task], engine: Engine, seed: int
) -> Instructions:
    """For each task the sentence after which the base model finds the right answers most likely.

    Args:
        sentences: one or more, by the name of the task.
        tasks: one without rows to show gets its first sentence.
        engine: with the target.
        seed: chooses the rows.
    """
    chosen = {name: wordings[0] for name, wordings in sentences.items()}
    for task in tasks:
        wordings, rows = sentences.get(task.name, ()), balanced(task.pool, N_ROWS, seed)
        if len(wordings) > 1 and rows:
            scores = [_likelihood(engine, task, rows, Instructions({task.name: wording})) for wording in wordings]
            chosen[task.name] = wordings[scores.index(max(scores))]
    return Instructions(chosen)


def _likelihood(engine: Engine, task: Task, rows: Sequence[Row], instructions: Instructions) -> float:
    """Log-probability of right answers in nats per token, the mean of rows; those that do not fit are left out."""
    prompts = engine.prompts
    questions = [
        BatchQuestion(
            prompts.after(system=row.system, turns=row.history)(tell(instructions.of_row(task, row), row.input)),
            options=[prompts.answer(row.input, row.output)],
        )
        for row in rows
    ]
    with Batch(engine) as batch:
        replies = [reply for reply in batch.ask(questions) if not reply.error]
    scores = [reply.outcomes[0].options[0] / len(reply.question.options[0]) for reply in replies]
    return sum(scores) / len(scores) if scores else float("-inf")
