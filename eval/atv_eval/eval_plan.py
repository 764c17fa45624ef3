"""What an evaluation measures: tasks, methods and settings, and which method can answer which task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from atv_eval.eval_task import Task, TaskKind
from atv_eval.instructions import Instructions
from atv_eval.methods import Method
from atv_local.errors import UsageError
from atv_local.text import shorten
from atv_local.vectors import Steering


@dataclass(frozen=True)
class EvalPlan:
    """An evaluation, but for the models.

    Raises:
        UsageError: a method that can answer none of the tasks.
    """

    tasks: Sequence[Task]
    methods: Sequence[Method]
    steering: Steering
    n_shots: int = 16
    seed: int = 0
    max_tokens: int | None = None
    """The token limit of an answer; by default a quarter more than the longest right answer of its task has, or a few
    more."""
    whole: bool = False
    """Write answers to their end, also where they can be none of the task's any more."""
    instructions: Instructions = field(default_factory=Instructions)

    def __post_init__(self) -> None:
        for method in self.methods:
            reasons = [why_not(method, task, self.instructions) for task in self.tasks]
            if all(reasons):
                raise UsageError(f"{method} cannot answer: {reasons[0]}")

    def methods_of(self, task: Task) -> list[Method]:
        """Those that can answer a task."""
        return [method for method in self.methods if not why_not(method, task, self.instructions)]

    def whole_task(self, task: Task) -> bool:
        """Whether the answers of a task are written to their end."""
        return self.whole or task.whole

    @property
    def n_answers(self) -> int:
        """Rows times methods."""
        return sum(len(self.methods_of(task)) * len(task.rows) for task in self.tasks)


def possible_methods(tasks: Sequence[Task], instructions: Instructions) -> list[Method]:
    """Those that can answer a task at least."""
    return [method for method in Method if not all(why_not(method, task, instructions) for task in tasks)]


def left_out(methods: Sequence[Method], tasks: Sequence[Task], instructions: Instructions) -> Iterator[str]:
    """A line for each reason why methods are left out, with the methods and the tasks."""
    places: defaultdict[str, defaultdict[tuple[str, ...], list[Method]]] = defaultdict(lambda: defaultdict(list))
    for method in methods:
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        for task in tasks:
            if reason := why_not(method, task, instructions):
                reasons[reason].append(task.name)
        for reason, names in reasons.items():
            places[reason][tuple(names)].append(method)
    for reason, by_tasks in places.items():
        for without, found in by_tasks.items():
            where = "" if len(without) == len(tasks) else f" for {shorten(', '.join(map(repr, without)))}"
            yield f"left out{where}: {', '.join(found)} ({reason})"


def why_not(method: Method, task: Task, instructions: Instructions) -> str | None:
    """Why a method cannot answer a task; None if it can."""
    if method is Method.STATIC and task.learned is not None:
        return None
    if method.needs_pool and not task.pool:
        return "no rows to show; name their file with `shots_from=...`"
    if method is Method.ZERO_SHOT and any(instructions.of_row(task, row) is None for row in task.rows):
        return "no instruction; give one with `instructions=...`, or in the rows"
    if method is Method.CLASSIFIER:
        if not task.labels or task.kind is not TaskKind.LABELS:
            return "the outputs are not labels"
        if find_spec("sklearn") is None:
            return "scikit-learn is not installed; run: pip install 'atv-local[eval]'"
    return None
