"""What an evaluation asks the target: one question per row and method.

The steered prompt is the bare query, as the base model's is; the generator reads that query and no option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from atv_eval.demonstrations import BM25, balanced
from atv_eval.eval_task import Task, TaskKind, right_answers
from atv_eval.match import AnswerMatcher
from atv_eval.methods import Method
from atv_local.answer import Engine
from atv_local.batch import BatchQuestion, SteeredPrompt
from atv_local.data import Row
from atv_local.errors import AtvError, DataError, UsageError
from atv_local.target import Prompt, PromptFormat
from atv_local.vectors import Steering

ROOM = 4
"""Tokens an answer may have at least beyond the longest right one: quotes, a stop."""


class Key(NamedTuple):
    """One row under one method."""

    task: str
    row: int
    method: Method


@dataclass(frozen=True)
class EvalPlan:
    """An evaluation, but for the models."""

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

    def __post_init__(self) -> None:
        for method in (Method.SHOTS, Method.BM25):
            if method in self.methods and not all(task.pool for task in self.tasks):
                name = next(task.name for task in self.tasks if not task.pool)
                raise UsageError(f"{method} needs rows of task {name!r} to show; name their file with `shots_from=...`")

    def whole_task(self, task: Task) -> bool:
        """Whether the answers of a task are written to their end."""
        return self.whole or task.whole

    @property
    def n_answers(self) -> int:
        """Rows times methods."""
        return len(self.methods) * sum(len(task.rows) for task in self.tasks)


class EvalQuestion(NamedTuple):
    """The tag of a question: whose answers its outcomes are."""

    keys: tuple[Key, ...]
    row: Row
    dropped: int
    """Demonstrations that did not fit."""


Prompts = Callable[[Row], tuple[Prompt, int]]


class QuestionBuilder:
    """Turns a plan into questions for one engine."""

    def __init__(self, plan: EvalPlan, engine: Engine) -> None:
        self._plan, self._engine = plan, engine
        self._vocabulary = engine.target.vocabulary
        self._bare = engine.target.prompts
        self._limits: dict[str, int] = {}

    def questions(self, done: Mapping[Key, object]) -> Iterator[BatchQuestion]:
        """Every row under every method that is not `done`: task by task, prompts that share a beginning together."""
        for task in self._plan.tasks:
            vectors = tuple(m for m in self._plan.methods if m in (Method.BASE, Method.STEERED))
            for methods in [vectors, *((m,) for m in self._plan.methods if m not in vectors)]:
                prompts = self._prompts(task, methods)
                for index, row in enumerate(task.rows):
                    if keys := tuple(key for m in methods if (key := Key(task.name, index, m)) not in done):
                        yield self._question(task, keys, row, prompts)

    def samples(self, n: int) -> Iterator[dict[Method, BatchQuestion]]:
        """The first rows of the tasks in turn, each under every method on its own."""
        prompts = {(task.name, m): self._prompts(task, (m,)) for task in self._plan.tasks for m in self._plan.methods}
        rows = [(task, index) for index in range(n) for task in self._plan.tasks if index < len(task.rows)]
        for task, index in rows[:n]:
            yield {
                m: self._question(task, (Key(task.name, index, m),), task.rows[index], prompts[task.name, m])
                for m in self._plan.methods
            }

    def _question(self, task: Task, keys: tuple[Key, ...], row: Row, prompts: Prompts) -> BatchQuestion:
        try:
            prompt, dropped = prompts(row)
            ways = [self._way(row, key.method) for key in keys]
        except AtvError as error:
            return BatchQuestion(Prompt((), 0), tag=EvalQuestion(keys, row, 0), error=error)
        return BatchQuestion(
            prompt,
            ways,
            self._limit(task),
            [self._bare.answer(row.input, choice) for choice in row.choices or ()],
            enough=None if self._plan.whole_task(task) else self._decided(task, row),
            tag=EvalQuestion(keys, row, dropped),
        )

    def _prompts(self, task: Task, methods: Sequence[Method]) -> Prompts:
        """From a row to its prompt and the number of demonstrations that did not fit it."""
        n = self._plan.n_shots
        pool = self._showable(task) if {Method.BM25, Method.SHOTS} & set(methods) else []
        if Method.BM25 in methods:
            nearest = BM25(pool)

            def of_its_own(row: Row) -> tuple[Prompt, int]:
                shown = nearest.nearest(row.input, n)
                form, n_shown = self._fitting(task, shown, row.input)
                return Prompt(form(row.input).tokens, 0), len(shown) - n_shown  # no other query has these before it

            return of_its_own
        shown = balanced(pool, n, self._plan.seed) if Method.SHOTS in methods else []
        form, n_shown = self._fitting(task, shown, max((row.input for row in task.rows), key=len))
        return lambda row: (form(row.input), len(shown) - n_shown)

    def _way(self, row: Row, method: Method) -> SteeredPrompt:
        if method is not Method.STEERED:
            return SteeredPrompt()
        return SteeredPrompt.of(self._plan.steering, self._engine.vector(row.input))

    def _decided(self, task: Task, row: Row) -> Callable[[Sequence[int]], bool]:
        return AnswerMatcher(task.candidates(row)).decided(self._vocabulary)

    def _limit(self, task: Task) -> int:
        if self._plan.max_tokens is None and task.name not in self._limits:
            texts = {text for row in task.rows for text in {*task.candidates(row), *right_answers(row)}}
            longest = max(len(self._vocabulary.tokenize(text, special=False)) for text in texts)
            room = ROOM if task.kind is TaskKind.LABELS else max(ROOM, longest // 4)
            self._limits[task.name] = longest + room
        return self._plan.max_tokens or self._limits[task.name]

    def _showable(self, task: Task) -> list[Row]:
        """A row that spells a control token would be taken for the end of its turn.

        Raises:
            DataError: there is no other.
        """
        rows = [row for row in task.pool if not self._vocabulary.spells_control(row.input + "\n" + row.output)]
        if not rows:
            raise DataError(f"all rows of {task.name!r} to show spell control tokens of the target; give plain text")
        return rows

    def _fitting(self, task: Task, shown: Sequence[Row], longest: str) -> tuple[PromptFormat, int]:
        """The last rows, as many as leave room for the longest query and its answer."""
        shown = list(shown)
        while True:
            form = self._bare.after(turns=[(row.input, row.output) for row in shown])
            if not shown or len(form(longest).tokens) + self._limit(task) <= self._engine.target.n_ctx:
                return form, len(shown)
            del shown[0]
