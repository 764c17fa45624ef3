"""The thresholds of a bundle's gate, fitted again on rows that should pass it and queries that should not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atv_eval.asked_rows import told_row
from atv_eval.eval_task import Task
from atv_eval.markdown import table
from atv_local.data import tell
from atv_local.errors import BundleError
from atv_local.generator import RECALL, Gate, GateSpec, Generator, fit_thresholds
from atv_local.text import shorten

UNRELATED = "unrelated queries"
MAX_OUTSIDE = 0.1
"""The share of the unrelated queries that new thresholds may steer beyond those steered before."""


@dataclass(frozen=True)
class GateChange:
    """How many of these queries the gate lets through, before and after."""

    n: int
    before: int
    after: int

    @property
    def gain(self) -> float:
        """What more of them pass, in points of 100."""
        return 100 * (self.after - self.before) / self.n


@dataclass(frozen=True)
class GateRefit:
    """A gate with new thresholds, and what they change.

    Attributes:
        spec: the gate with its new thresholds.
        tasks: by task of the file, the rows that pass.
        outside: the queries that should not pass.
    """

    spec: GateSpec
    tasks: Mapping[str, GateChange]
    outside: GateChange

    @property
    def rows(self) -> GateChange:
        """The rows of all tasks together."""
        changes = self.tasks.values()
        return GateChange(sum(c.n for c in changes), sum(c.before for c in changes), sum(c.after for c in changes))

    @property
    def cost(self) -> float:
        """The points of 100 that are lost: rows that no longer pass, less unrelated queries that no longer do."""
        return self.outside.gain - self.rows.gain

    @property
    def opens(self) -> bool:
        """Whether the gate hardly tells the rows from other queries any more."""
        return self.outside.after - self.outside.before > MAX_OUTSIDE * self.outside.n

    def as_markdown(self) -> str:
        """A table of what is steered before and after."""
        changes = [*self.tasks.items(), (UNRELATED, self.outside)]
        rows = [
            [name, str(change.n), *(f"{100 * count / change.n:.1f}" for count in (change.before, change.after))]
            for name, change in changes
        ]
        return table(["steered by the gate", "queries", "before, %", "after, %"], rows)


def refit_gate(
    generator: Generator,
    tasks: Sequence[Task],
    outside: Sequence[str],
    *,
    recall: float = RECALL,
    separate: bool = False,
    on_message: Callable[[str], None] = lambda _: None,
) -> GateRefit:
    """Thresholds that a share of the rows passes.

    A task of the gate that has no rows moves with the mean of those that have some.

    Args:
        generator: of a bundle that has a gate.
        tasks: rows that should pass. They belong to the task of the gate that has the same name, or to the only one;
            the rows of other tasks to the one that each fits best.
        outside: queries that should not pass.
        recall: the share of the rows that passes at least.
        separate: lower the thresholds where that separates rows from the queries outside better; else these are only
            counted.
        on_message: called with a line about tasks that have no partner.

    Raises:
        BundleError: the bundle cannot read a query.
    """
    gate, spec = generator.gate, generator.bundle.manifest.gate
    assert gate is not None  # the caller has looked
    assert spec is not None
    before = np.array([task.threshold for task in spec.tasks])
    told = [tell(told_row(generator, task.name, row), row.input) for task in tasks for row in task.rows]
    only = generator.bundle.manifest.only_task
    of_rows = _similarities(generator, gate, told)
    others = _similarities(generator, gate, [tell(only.told() if only else None, query) for query in outside])
    partners = _partners(spec, tasks, on_message)
    wanted = np.repeat(partners, [len(task.rows) for task in tasks])
    scales = np.array([task.scale for task in spec.tasks])
    of_task = np.where(wanted < 0, ((of_rows - before) / scales).argmax(axis=1), wanted)
    fitted, _ = fit_thresholds(of_rows, of_task, others, recall=recall, separate=separate)
    after = np.array(fitted)
    measured = np.isin(np.arange(len(before)), of_task)
    after[~measured] = before[~measured] + (after - before)[measured].mean()
    if not measured.all():
        without = [task.name for task, found in zip(spec.tasks, measured, strict=True) if not found]
        on_message(
            f"no rows of {shorten(', '.join(map(repr, without)))}, whose threshold moves with the others, "
            f"by {(after - before)[~measured][0]:+.3f}"
        )
    passed = [[_passing(values, thresholds) for thresholds in (before, after)] for values in (of_rows, others)]
    ends = np.cumsum([0, *(len(task.rows) for task in tasks)])
    changes = {
        task.name: _change(passed[0], slice(start, end))
        for task, start, end in zip(tasks, ends[:-1], ends[1:], strict=True)
    }
    moved = [
        task.model_copy(update={"threshold": float(threshold)})
        for task, threshold in zip(spec.tasks, after, strict=True)
    ]
    return GateRefit(spec.model_copy(update={"tasks": moved}), changes, _change(passed[1], slice(None)))


def _similarities(generator: Generator, gate: Gate, queries: Sequence[str]) -> NDArray[np.float32]:
    """Of queries to every task, float32 [n_queries, n_tasks]."""
    found = []
    for query in queries:
        state = generator.pooled(query)
        if state is None:
            raise BundleError(f"the graph of {generator.bundle.path} gives no pooled state")
        found.append(gate.similarities(state))
    return np.array(found)


def _partners(spec: GateSpec, tasks: Sequence[Task], on_message: Callable[[str], None]) -> list[int]:
    """The task of the gate for each of the file, by number; -1 for none."""
    names = [task.name for task in spec.tasks]
    if len(names) == len(tasks) == 1:
        return [0]
    if strangers := [task.name for task in tasks if task.name not in names]:
        on_message(
            f"the tasks of the gate are {shorten(', '.join(map(repr, names)))}; each row of "
            f"{shorten(', '.join(map(repr, strangers)))} counts for the one that it fits best"
        )
    return [names.index(task.name) if task.name in names else -1 for task in tasks]


def _passing(similarities: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((similarities >= thresholds).any(axis=1))


def _change(passed: Sequence[NDArray[np.bool_]], part: slice) -> GateChange:
    before, after = (side[part] for side in passed)
    return GateChange(len(before), int(before.sum()), int(after.sum()))
