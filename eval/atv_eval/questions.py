"""What an evaluation asks the target: one question per row and method.

The steered prompt is the bare query, as the base model's is; the generator reads that query and no option.
Instructions and demonstrations go before it: in the same message, or in that of the first demonstration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

from atv_eval.asked_rows import asked_row
from atv_eval.demonstrations import BM25, balanced
from atv_eval.eval_plan import EvalPlan
from atv_eval.eval_task import Task, TaskKind, right_answers
from atv_eval.match import AnswerMatcher
from atv_eval.methods import Method
from atv_local.answer import Asked, Engine
from atv_local.batch import BatchQuestion, SteeredPrompt
from atv_local.data import Row, tell
from atv_local.errors import AtvError, DataError
from atv_local.target import Prompt, PromptFormat, shared_length
from atv_local.vectors import ControlVector, ScaledVector, Steering, TaskVector, trained_positions

ROOM = 4
"""Tokens an answer may have at least beyond the longest right one: quotes, a stop."""


class Key(NamedTuple):
    """One row under one method."""

    task: str
    row: int
    method: Method


class EvalQuestion(NamedTuple):
    """The tag of a question: whose answers its outcomes are."""

    keys: tuple[Key, ...]
    row: Row
    dropped: int
    """Demonstrations that did not fit."""
    choosing: tuple[int, ...] = ()
    """For each key the outcome that has the row's choices, where that is steered otherwise than a free answer."""


MAX_MEAN_ROWS = 256
"""Rows whose vectors have their mean taken as a task's static vector; more would hardly move it."""

Prompts = Callable[[Row], tuple[Prompt, int]]


class QuestionBuilder:
    """Turns a plan into questions for one engine."""

    def __init__(self, plan: EvalPlan, engine: Engine) -> None:
        self._plan, self._engine = plan, engine
        self._vocabulary = engine.target.vocabulary
        self._bare = engine.prompts
        self._form = lru_cache(maxsize=64)(lambda system, turns: self._bare.after(system=system, turns=turns))
        self._limits: dict[str, int] = {}
        self._means: dict[str, TaskVector] = {}

    def questions(self, done: Mapping[Key, object]) -> Iterator[BatchQuestion]:
        """Every row under every method that asks the target and is not `done`: task by task, prompts that share a
        beginning together."""
        for task in self._plan.tasks:
            asked = [method for method in self._plan.methods_of(task) if method.asks_target]
            bare = tuple(method for method in asked if method.bare and not self._tells(method))
            told = tuple(method for method in asked if self._tells(method))
            for methods in [bare, told, *((method,) for method in asked if not method.bare)]:
                missing = [
                    (row, keys)
                    for index, row in enumerate(task.rows)
                    if (keys := tuple(key for m in methods if (key := Key(task.name, index, m)) not in done))
                ]
                if missing:
                    prompts = self._prompts(task, methods)
                    yield from (self._question(task, keys, row, prompts) for row, keys in missing)

    def samples(self, n: int) -> Iterator[dict[Method, BatchQuestion]]:
        """The first rows of the tasks in turn, each under every method that asks the target on its own."""
        methods = {task.name: [m for m in self._plan.methods_of(task) if m.asks_target] for task in self._plan.tasks}
        prompts = {(task.name, m): self._prompts(task, (m,)) for task in self._plan.tasks for m in methods[task.name]}
        rows = [(task, index) for index in range(n) for task in self._plan.tasks if index < len(task.rows)]
        for task, index in rows[:n]:
            yield {
                m: self._question(task, (Key(task.name, index, m),), task.rows[index], prompts[task.name, m])
                for m in methods[task.name]
            }

    def _question(self, task: Task, keys: tuple[Key, ...], row: Row, prompts: Prompts) -> BatchQuestion:
        try:
            prompt, dropped = prompts(row)
            ways = [self._way(task, row, key.method) for key in keys]
            choosing, more = self._choosing(task, row, keys)
        except AtvError as error:
            return BatchQuestion(Prompt((), 0), tag=EvalQuestion(keys, row, 0), error=error)
        return BatchQuestion(
            prompt,
            [*ways, *more],
            self._limit(task),
            [self._bare.answer(row.input, choice) for choice in row.choices or ()],
            enough=None if self._plan.whole_task(task) else self._decided(task, row),
            tag=EvalQuestion(keys, row, dropped, choosing),
        )

    def _choosing(self, task: Task, row: Row, keys: Sequence[Key]) -> tuple[tuple[int, ...], list[SteeredPrompt]]:
        """Where the outcome is that chooses for each key, and the ways that are needed besides for them.

        A query that is unlike the tasks of a bundle is answered by its static vector, and chosen for by the base model.
        """
        places: list[int] = list(range(len(keys)))
        more: list[SteeredPrompt] = []
        for place, key in enumerate(keys):
            if key.method is Method.STEERED and row.choices and self._asked(task, row).static:
                places[place] = len(keys) + len(more)
                more.append(SteeredPrompt.of_asked(self._engine, self._asked(task, row, restricted=True)))
        return tuple(places), more

    def _prompts(self, task: Task, methods: Sequence[Method]) -> Prompts:
        """From a row to its prompt and the number of demonstrations that did not fit it."""
        n, instruction = self._plan.n_shots, None
        if any(map(self._tells, methods)):
            return lambda row: (self._instructed(self._asked(task, row).instruction, row), 0)
        if Method.ZERO_SHOT in methods:
            return lambda row: (self._instructed(self._plan.instructions.of_row(task, row), row), 0)
        if any(method.shows for method in methods):
            instruction = self._plan.instructions.of_task(task)
        if Method.BM25 in methods:
            nearest = BM25(self._showable(task))

            def of_its_own(row: Row) -> tuple[Prompt, int]:
                shown = nearest.nearest(row.input, n)
                form, n_shown = self._fitting(task, shown, row, instruction)
                return replace(form(row.input), shared=0), len(shown) - n_shown  # no other query has these before it

            return of_its_own
        shown = balanced(self._showable(task), n, self._plan.seed) if Method.SHOTS in methods else []
        longest = {_before(row): row for row in sorted(task.rows, key=lambda row: len(row.input))}
        fitting = cache(lambda before: self._fitting(task, shown, longest[before], instruction))

        def of_task(row: Row) -> tuple[Prompt, int]:
            form, n_shown = fitting(_before(row))
            return form(row.input), len(shown) - n_shown

        return of_task

    def _tells(self, method: Method) -> bool:
        """Whether the method's prompts have an instruction because the bundle reads them."""
        return method in (Method.STEERED, Method.STATIC) and bool(self._engine.instructions)

    def _asked(self, task: Task, row: Row, *, restricted: bool = False) -> Asked:
        given = self._plan.instructions.given
        return asked_row(self._engine, self._plan.steering, task.name, row, given, restricted=restricted)

    def _instructed(self, instruction: str | None, row: Row) -> Prompt:
        form = self._form(*_before(row))
        one, other, prompt = (form(tell(instruction, text)) for text in ("a", "1", row.input))
        fixed = one.tokens[: shared_length(one.tokens, other.tokens)]  # what no query changes
        return replace(prompt, shared=min(shared_length(fixed, prompt.tokens), len(prompt.tokens) - 1))

    def _way(self, task: Task, row: Row, method: Method) -> SteeredPrompt:
        if method is Method.STEERED:
            return SteeredPrompt.of_asked(self._engine, self._asked(task, row))
        if method is Method.STATIC:
            if task.learned is not None:
                return SteeredPrompt.of(*self._learned(task.learned))
            return SteeredPrompt.of(self._plan.steering, self._mean_vector(task))
        return SteeredPrompt()

    def _learned(self, vector: ControlVector) -> tuple[Steering, TaskVector]:
        """As it was trained: at strength 1, all its layers, at its own positions."""
        steering = Steering(positions=trained_positions([ScaledVector(vector)]))
        return steering, vector.vector(self._engine.target.n_rows)

    def _mean_vector(self, task: Task) -> TaskVector:
        if task.name not in self._means:
            rows = balanced(task.pool, MAX_MEAN_ROWS, self._plan.seed)
            first, *others = (self._vector(self._asked(task, row)) for row in rows)
            self._means[task.name] = sum(others, start=first) / len(rows)
        return self._means[task.name]

    def _vector(self, asked: Asked) -> TaskVector:
        vector = self._engine.gated(asked, forced=True).vector
        assert vector is not None  # a forced one is never missing
        return vector

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

    def _fitting(
        self, task: Task, shown: Sequence[Row], longest: Row, instruction: str | None
    ) -> tuple[PromptFormat, int]:
        """The last rows, as many as leave room for the longest query and its answer; the first has the instruction."""
        turns = [(row.input, row.output) for row in shown]
        while True:
            head = [(tell(instruction, query), output) for query, output in turns[:1]]
            form = self._form(longest.system, (*head, *turns[1:], *longest.history))
            if not turns or len(form(longest.input).tokens) + self._limit(task) <= self._engine.target.n_ctx:
                return form, len(turns)
            del turns[0]


def _before(row: Row) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """What a prompt has before the query."""
    return row.system, row.history
