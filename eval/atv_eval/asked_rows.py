"""What a row's steered prompt says before its input."""

from __future__ import annotations

from atv_eval.eval_plan import EvalPlan
from atv_eval.eval_task import Task
from atv_local.answer import Asked, Engine
from atv_local.data import Row, with_choices


def asked_row(engine: Engine, plan: EvalPlan, task: Task, row: Row) -> Asked:
    """The row as a bundle is asked for it.

    A bundle that was trained with instructions reads that of its own task of this name, or else the one that is given
    for the task or by the row, with the row's choices. Other bundles read the input alone.

    Args:
        engine: with the bundle.
        plan: has instructions and steering.
        task: of the row.
        row: to answer.
    """
    known = engine.instructions
    if not known or plan.steering.off:
        return Asked(row.input, plan.steering)
    if task.name in known:
        only = len(known) == 1  # which needs no name, and whose gate decides
        return engine.asked(row.input, task=None if only else task.name, steering=plan.steering)
    said = with_choices(plan.instructions.given.get(task.name) or row.instruction, row.choices)
    return engine.asked(row.input, instruction=said, steering=plan.steering)
