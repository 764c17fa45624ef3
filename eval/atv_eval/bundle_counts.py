"""Which of several bundles steers the rows of each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atv_eval.answer_records import EvalRecord
from atv_eval.eval_plan import EvalPlan
from atv_eval.methods import Method
from atv_local.answer import Engine


@dataclass(frozen=True)
class BundleCounts:
    """The rows of a task that were answered with steering, by the bundle that steered.

    Attributes:
        rows: all of them.
        steered: by the name of each bundle, how many it steers.
        unsteered: rows that no bundle accepts.
        overlaps: rows that more than one gate accepts.
        ties: rows among those whose two highest scores are equal.
    """

    rows: int
    steered: Mapping[str, int]
    unsteered: int
    overlaps: int
    ties: int


def count_bundles(plan: EvalPlan, engine: Engine, records: Sequence[EvalRecord]) -> dict[str, BundleCounts]:
    """By task, without failed rows; empty unless there are several bundles, and answers that they could steer."""
    if len(engine.generators) < 2 or plan.steering.off:
        return {}
    names, ungated = engine.bundle_names, engine.chosen_generator(None)
    rows = {task.name: task.rows for task in plan.tasks}
    counts: dict[str, BundleCounts] = {}
    for task in rows:
        answered = [r for r in records if r.task == task and r.method is Method.STEERED and not r.error]
        steered: Counter[str] = Counter()
        overlaps = ties = 0
        for record in answered:
            if record.gate is None and ungated is not None:
                steered[ungated.bundle.id] += 1
            elif record.gate is not None and record.gate["steered"]:
                steered[record.gate["bundle"]] += 1
            decisions = engine.gate_decisions(rows[task][record.row].input, steering=plan.steering)
            scores = sorted(decision.score for decision in decisions if decision.steered)
            overlaps += len(scores) > 1
            ties += len(scores) > 1 and scores[-1] == scores[-2]
        if answered:
            by_name = {name: steered[bundle_id] for bundle_id, name in names.items()}
            counts[task] = BundleCounts(len(answered), by_name, len(answered) - steered.total(), overlaps, ties)
    return counts
