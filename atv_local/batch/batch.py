"""Many queries answered or scored together in one context."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atv_local.answer import (
    Answer,
    Choices,
    Constraint,
    Engine,
    Schema,
    TokenCounts,
    check_queries,
    check_settings,
    said_instruction,
)
from atv_local.batch.limits import DEFAULT_PARALLEL, MAX_PARALLEL
from atv_local.batch.question import (
    BatchQuestion,
    BatchReply,
    SteeredPrompt,
    check_options,
    check_question,
    check_questions,
)
from atv_local.batch.question_tree import heads_of, outcomes_of, tree_of, trees_of
from atv_local.batch.scheduler import Scheduler
from atv_local.batch.token_tree import Tree
from atv_local.data import as_integer, as_max_tokens
from atv_local.errors import AtvError, PromptError, UsageError
from atv_local.sequences import SequenceContext
from atv_local.target import DEFAULT_MAX_TOKENS, Grammar, Prompt, Sampling
from atv_local.vectors import Steering


class Batch:
    """Answers many queries of one engine together, each as if it were alone, for one thread at a time.

    A batch is a context manager. It has a context of its own over the engine's weights, which `close` frees; the engine
    stays open. On a CPU its answers are bit for bit those of
    `Engine.answer` where a prompt has up to 63 tokens of its own and, with its answer, up to 256 in all; longer ones
    are rounded differently.

    Args:
        engine: gives target, vectors and default steering.
        parallel: most answers and options at a time, up to 254.
        n_ctx: tokens of all of them together, shared ones counted once; by default twice the engine's.

    Raises:
        UsageError: no engine, one that is closed, sizes out of range, or llama.cpp cannot make such a context.
        ModelError: the architecture cannot be steered token by token.
    """

    def __init__(self, engine: Engine, *, parallel: int = DEFAULT_PARALLEL, n_ctx: int | None = None) -> None:
        if not isinstance(engine, Engine):
            raise UsageError(f"`engine` {engine!r} is not an Engine; make one with atv_local.load")
        engine.check_open()
        parallel = as_integer("parallel", parallel, 1, MAX_PARALLEL)
        if n_ctx is not None:
            n_ctx = as_integer("n_ctx", n_ctx, 1, (MAX_PARALLEL + 1) * engine.target.n_ctx)  # more cannot be filled
        self._engine = engine
        self._n_ctx = engine.target.n_ctx
        n_ctx, unscaled = n_ctx or 2 * self._n_ctx, engine.target.model.n_ctx_unscaled
        if self._n_ctx <= unscaled:  # in a larger context than the target's the same tokens could have other logits
            n_ctx = min(n_ctx, unscaled - 1)
            self._n_ctx = min(self._n_ctx, n_ctx)
        self._sequences = SequenceContext(
            engine.target.model,
            n_sequences=parallel + 1,  # one has what prompts share
            n_ctx=n_ctx,
            n_threads=engine.target.n_threads,
        )
        self._scheduler = Scheduler(self._sequences, engine.target.vocabulary.ends)
        self._prompts = lru_cache(maxsize=8)(lambda system, turns: engine.prompts.after(system=system, turns=turns))

    def __repr__(self) -> str:
        sizes = f"parallel={self._sequences.n_sequences - 1}, n_ctx={self._sequences.n_ctx}"
        return f"Batch({self._engine!r}, {sizes}{', closed' if self._sequences.closed else ''})"

    def close(self) -> None:
        """Free the batch's context; an unfinished call ends with a UsageError. The engine can still be used."""
        self._sequences.close()

    def _check_open(self) -> None:
        self._sequences.check_open()
        self._engine.check_open()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def n_evaluated(self) -> int:
        """Tokens evaluated so far, shared ones counted once."""
        return self._sequences.n_evaluated

    def answer(
        self,
        queries: Iterable[str],
        *,
        task: str | None = None,
        instruction: str | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        system: str | None = None,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
    ) -> Generator[Answer]:
        """Answer queries, in order. Arguments, answers and errors are those of `Engine.answer_many`."""
        self._check_open()
        steering = self._engine.checked_steering(steering)
        check_queries(queries)
        check_settings(steering, sampling, system)
        said_instruction(task, instruction, (), self._engine.tasks)
        settings = {
            "task": task,
            "instruction": instruction,
            "sampling": sampling,
            "max_tokens": as_max_tokens(max_tokens),
            "system": system,
            "constraint": self._engine.constraint(choices, schema, grammar, task=task),
        }
        return self._answers(queries, steering, settings)

    def _answers(self, queries: Iterable[str], steering: Steering, settings: dict[str, Any]) -> Generator[Answer]:
        for reply in self.ask(self.question(query, steering=steering, **settings) for query in queries):
            if reply.error:
                raise reply.error
            asked = reply.question.asked
            assert asked is not None  # of a question that was made of a query
            prompt, way, outcome = reply.question.prompt, reply.question.ways[0], reply.outcomes[0]
            shared = 0 if way.from_start else prompt.shared
            yield Answer.of(
                self._engine,
                asked.steering,
                text=outcome.text,
                finish_reason=outcome.finish_reason,
                tokens=TokenCounts(len(prompt.tokens), len(prompt.tokens) - shared, outcome.n_generated),
                probabilities=outcome.probabilities,
                asked=asked,
                gate=way.gate,
            )

    def score(
        self,
        queries: Iterable[str],
        options: Sequence[str],
        *,
        steering: Steering | None = None,
        system: str | None = None,
    ) -> Generator[tuple[float, ...]]:
        """How likely each option is as the answer to each query, in order.

        Arguments are checked at once, each query in its turn.

        Args:
            queries: drawn as there is room.
            options: complete answers.
            steering: by default the engine's.
            system: a system message for all.

        Yields:
            For each query the log-probability of every option in nats, the token that ends the answer included.

        Raises:
            UsageError: no options, or values of another type.
            AtvError: a query that cannot be evaluated, after the scores of those before it.
        """
        self._check_open()
        steering = self._engine.checked_steering(steering)
        check_queries(queries)
        check_settings(steering, system=system)
        if not (options := check_options(options)):
            raise UsageError("`options` is empty; give the answers to score")
        return self._scores(queries, {"options": options, "steering": steering, "system": system})

    def _scores(self, queries: Iterable[str], settings: dict[str, Any]) -> Generator[tuple[float, ...]]:
        for reply in self.ask(self.question(query, **settings) for query in queries):
            if reply.error:
                raise reply.error
            yield reply.outcomes[0].options

    def question(
        self,
        query: str,
        *,
        task: str | None = None,
        instruction: str | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
        options: Sequence[str] = (),
        system: str | None = None,
        turns: Sequence[tuple[str, str]] = (),
        constraint: Constraint | None = None,
        listed: Sequence[str] = (),
        tag: Any = None,
    ) -> BatchQuestion:
        """A query as a question for `ask`, steered by its own vector.

        Args:
            query: the user's words.
            task: as for `Engine.answer`, and so is `instruction`.
            instruction: what to do with the query.
            steering: by default the engine's.
            sampling: greedy by default.
            max_tokens: of the answer; 0 writes none, -1 means no limit.
            options: answers to score, as texts.
            system: a system message.
            turns: earlier queries with their answers.
            constraint: of the answer, as `Engine.constraint` gives it. Choices are scored in place of `options`, and
                nothing is written.
            listed: allowed answers that are listed after the instruction, where the constraint has none.
            tag: whatever the caller wants to find in the reply.

        Returns:
            The question; if the query cannot be answered, one with `error`.

        Raises:
            UsageError: `max_tokens`, `options` or settings of another type.
        """
        max_tokens = as_max_tokens(max_tokens, 0)
        choices = constraint.choices if constraint else ()
        options = choices or check_options(options)
        steering = self._engine.steering if steering is None else steering
        check_settings(steering, sampling, system)
        try:
            asked = self._engine.asked(
                query, task=task, instruction=instruction, choices=choices, listed=listed, steering=steering
            )
            prompts = self._prompts(system, tuple(turns))
            prompt = prompts(asked.text)
            return BatchQuestion(
                prompt,
                [SteeredPrompt.of_asked(self._engine, asked)],
                0 if choices else max_tokens,
                [prompts.answer(asked.text, text) for text in options],
                sampling=sampling,
                choices=choices,
                grammar=constraint.grammar if constraint else None,
                tag=tag,
                asked=asked,
            )
        except AtvError as error:
            return BatchQuestion(Prompt((), 0), tag=tag, error=error)

    def ask(self, questions: Iterable[BatchQuestion]) -> Generator[BatchReply]:
        """Answer or score questions.

        Scores and answers, greedy or with a seed, do not depend on what else is asked.

        Args:
            questions: drawn as there is room, some hundreds ahead at most.

        Yields:
            A reply to each question, in order. A question that cannot be evaluated has a reply with `error`.

        Raises:
            UsageError: something else than questions, or a batch that is closed, at once; later also another call that
                is not finished, whose generator is to be closed first.
        """
        self._check_open()
        check_questions(questions)
        return self._replies(questions)

    def _replies(self, questions: Iterable[BatchQuestion]) -> Generator[BatchReply]:
        parts: deque[tuple[BatchQuestion, int]] = deque()

        def trees_of_questions() -> Iterator[Tree]:
            for question in questions:
                self._check_open()
                check_question(question)
                trees = trees_of(question, self._tree, self._scheduler.fits)
                parts.append((question, len(trees)))
                yield from trees

        trees = self._scheduler.run(trees_of_questions())
        while (tree := next(trees, None)) is not None:
            question, n_trees = parts.popleft()
            group = [tree, *islice(trees, n_trees - 1)]
            error = next((tree.error for tree in group if tree.error), None)
            outcomes = () if error else outcomes_of(question, group, self._engine.target.vocabulary)
            yield BatchReply(question, outcomes, sum(tree.n_evaluated for tree in group), error)
            self._check_open()

    def distributions(self, questions: Iterable[BatchQuestion]) -> Generator[list[NDArray[np.float32]]]:
        """The target's predictions along given texts.

        Args:
            questions: each with one option, the text.

        Yields:
            For each way of the question the log-probabilities before every token of its option, float32
            [tokens of the option, n_vocab].

        Raises:
            UsageError: as `ask`; also, in its turn, a question without an option.
            AtvError: a question that cannot be evaluated, after those before it.
        """
        self._check_open()
        check_questions(questions)
        return self._distributions(questions)

    def _distributions(self, questions: Iterable[BatchQuestion]) -> Generator[list[NDArray[np.float32]]]:
        def trees() -> Iterator[Tree]:
            for question in questions:
                self._check_open()
                check_question(question)
                if question.error is None and len(question.options) != 1:
                    raise UsageError(f"a question has {len(question.options)} options; give it one, the text")
                yield self._tree(question if question.error else replace(question, max_tokens=0), keep=True)

        for tree in self._scheduler.run(trees()):
            if tree.error:
                raise tree.error
            yield [np.array(head.children[0].distributions) for head in heads_of(tree)]

    def _tree(self, question: BatchQuestion, *, keep: bool = False) -> Tree:
        length = len(question.prompt.tokens)
        if question.error:
            return Tree((), [], tag=question, error=question.error)
        if length >= self._n_ctx + (not question.max_tokens):  # the last token of an option is not evaluated
            error = PromptError(
                f"the prompt has {length} tokens and the context {self._n_ctx}; shorten it or raise `n_ctx`"
            )
            return Tree((), [], tag=question, error=error)
        room = self._n_ctx - length + 1  # the last token written is not evaluated
        try:
            return tree_of(question, self._engine.target.vocabulary, min(question.max_tokens, room), keep=keep)
        except AtvError as error:  # a grammar that does not suit the vocabulary
            return Tree((), [], tag=question, error=error)
