"""Many prompts answered or scored together: what `Engine.stream` does for one. Prompts in, texts and numbers out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_local.answer import Answer, Engine, Finish, TokenCounts, check_query
from atv_local.batch.scheduler import Scheduler
from atv_local.batch.sequence_context import SequenceContext
from atv_local.batch.token_tree import Branch, Tree
from atv_local.errors import AtvError, PromptError, UsageError
from atv_local.target import Prompt, Sampler, Sampling, Vocabulary
from atv_local.vectors import OFF, Steering, TaskVector

N_SEQUENCES = 128


@dataclass(frozen=True)
class SteeredPrompt:
    """How a prompt is evaluated: under which rows, and at which positions. Without rows it is the base model."""

    rows: TaskVector | None = None
    steering: Steering = OFF

    @property
    def from_start(self) -> bool:
        """Whether the whole prompt is steered, so that it has nothing in common with others."""
        return self.rows is not None and self.steering.positions.prefix

    @classmethod
    def of(cls, steering: Steering, vector: TaskVector | None) -> SteeredPrompt:
        """A vector as a steering applies it."""
        return cls() if vector is None or steering.off else cls(steering.apply(vector), steering)


@dataclass(frozen=True)
class BatchQuestion:
    """One prompt, to be answered and to have options scored, each in one or several ways.

    Options are token ids, as `PromptFormat.answer` gives them: with the token that ends an answer.
    """

    prompt: Prompt
    ways: Sequence[SteeredPrompt] = (SteeredPrompt(),)
    max_tokens: int = 0
    options: Sequence[Sequence[int]] = ()
    sampling: Sampling | None = None
    enough: Callable[[Sequence[int]], bool] | None = None
    """Given the tokens written so far: whether the rest of the answer does not matter."""
    tag: Any = None
    """The caller's."""
    error: AtvError | None = None
    """Why it cannot be asked; its reply has the same, in its turn."""
    goes_on: bool = False
    """Its options are further ones of the same way as those of the question before."""

    def __post_init__(self) -> None:
        if self.error is None and not (self.ways and (self.max_tokens > 0 or self.options)):
            raise UsageError("a question needs a way to be evaluated, and tokens to write or options to score")


@dataclass(frozen=True)
class Outcome:
    """What became of a question in one of its ways."""

    text: str
    tokens: tuple[int, ...]
    """Those written, without one that ended them."""
    finish: Finish | None
    options: tuple[float, ...]
    """Log-probability of each option, in nats."""
    greedy: tuple[bool, ...] = ()
    """Whether each option is what a greedy answer would begin with."""

    @property
    def n_generated(self) -> int:
        """Number of tokens written."""
        return len(self.tokens)


@dataclass(frozen=True)
class BatchReply:
    """A question with an outcome for each of its ways, or the error that it met."""

    question: BatchQuestion
    outcomes: tuple[Outcome, ...]
    n_evaluated: int
    """Tokens evaluated for it; those of a shared beginning are not counted."""
    error: AtvError | None = None


class Batch:
    """Answers many queries of one engine together, each as if it were alone. Not for several threads.

    A batch has a context of its own over the engine's weights. On a CPU its answers are bit for bit those of
    `Engine.answer` where a prompt has up to 63 tokens of its own and, with its answer, up to 256 in all; longer ones
    are rounded differently.

    Args:
        engine: gives target, vectors and default steering.
        n_sequences: most answers and options at a time, up to 255.
        n_ctx: tokens of all of them together, shared ones counted once; by default twice the engine's.

    Raises:
        UsageError: llama.cpp cannot make such a context.
        ModelError: the architecture cannot be steered token by token.
    """

    def __init__(self, engine: Engine, *, n_sequences: int = N_SEQUENCES, n_ctx: int | None = None) -> None:
        self._engine = engine
        self._vocabulary, self._n_ctx = engine.target.vocabulary, engine.target.n_ctx
        self._sequences = SequenceContext(
            engine.target.model,
            n_sequences=n_sequences,
            n_ctx=n_ctx or 2 * self._n_ctx,
            n_threads=engine.target.n_threads,
        )
        self._scheduler = Scheduler(self._sequences, self._vocabulary.ends)
        self._prompts = lru_cache(maxsize=8)(lambda system: engine.target.prompts.after(system=system))

    def __repr__(self) -> str:
        return f"Batch({self._engine!r}, {self._sequences.n_sequences} sequences, n_ctx={self._sequences.n_ctx})"

    @property
    def n_evaluated(self) -> int:
        """Tokens evaluated so far, shared ones counted once."""
        return self._sequences.n_evaluated

    def answer(
        self,
        queries: Iterable[str],
        *,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = 256,
        system: str | None = None,
    ) -> Iterator[Answer]:
        """Answer queries, in order. Arguments, answers and errors are those of `Engine.answer_many`."""
        if max_tokens < 1:
            raise UsageError(f"`max_tokens` {max_tokens} is below 1")
        steering = self._engine.steering if steering is None else steering
        settings: dict[str, Any] = {"steering": steering, "sampling": sampling, "system": system}
        for reply in self.ask(self.question(query, max_tokens=max_tokens, **settings) for query in queries):
            if reply.error:
                raise reply.error
            prompt, outcome = reply.question.prompt, reply.outcomes[0]
            shared = 0 if reply.question.ways[0].from_start else prompt.shared
            yield Answer.of(
                self._engine,
                steering,
                text=outcome.text,
                finish_reason=outcome.finish,
                tokens=TokenCounts(len(prompt.tokens), len(prompt.tokens) - shared, outcome.n_generated),
            )

    def score(
        self,
        queries: Iterable[str],
        options: Sequence[str],
        *,
        steering: Steering | None = None,
        system: str | None = None,
    ) -> Iterator[tuple[float, ...]]:
        """How likely each option is as the answer to each query, in order.

        Args:
            queries: drawn as there is room.
            options: complete answers.
            steering: by default the engine's.
            system: a system message for all.

        Yields:
            For each query the log-probability of every option in nats, the token that ends the answer included.

        Raises:
            UsageError: no options.
            AtvError: when it is the turn of a query that cannot be evaluated.
        """
        if not options:
            raise UsageError("`options` is empty; give the answers to score")
        settings: dict[str, Any] = {"options": options, "steering": steering, "system": system}
        for reply in self.ask(self.question(query, **settings) for query in queries):
            if reply.error:
                raise reply.error
            yield reply.outcomes[0].options

    def question(
        self,
        query: str,
        *,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
        options: Sequence[str] = (),
        system: str | None = None,
        tag: Any = None,
    ) -> BatchQuestion:
        """A query as a question for `ask`, steered by its own vector.

        Args:
            query: the user's words.
            steering: by default the engine's.
            sampling: greedy by default.
            max_tokens: of the answer; 0 writes none.
            options: answers to score, as texts.
            system: a system message.
            tag: whatever the caller wants to find in the reply.

        Returns:
            The question; if the query cannot be answered, one with `error`.
        """
        steering = self._engine.steering if steering is None else steering
        try:
            check_query(query)
            prompts = self._prompts(system)
            prompt = prompts(query)
            vector = None if steering.off else self._engine.vector(query)
            return BatchQuestion(
                prompt,
                [SteeredPrompt.of(steering, vector)],
                max_tokens,
                [prompts.answer(query, text) for text in options],
                sampling=sampling,
                tag=tag,
            )
        except AtvError as error:
            return BatchQuestion(Prompt((), 0), tag=tag, error=error)

    def ask(self, questions: Iterable[BatchQuestion]) -> Iterator[BatchReply]:
        """A reply to each question, in order. Questions are drawn as there is room, some hundreds ahead at most.

        Scores and answers, greedy or with a seed, do not depend on what else is asked; an error is that of its own
        question.
        """
        parts: deque[tuple[BatchQuestion, int]] = deque()
        trees = self._scheduler.run(tree for question in questions for tree in self._trees(question, parts))
        while (tree := next(trees, None)) is not None:
            question, n_trees = parts.popleft()
            found = [tree, *islice(trees, n_trees - 1)]
            error = next((tree.error for tree in found if tree.error), None)
            outcomes = () if error else self._outcomes(found)
            yield BatchReply(question, outcomes, sum(tree.n_evaluated for tree in found), error)

    def distributions(self, questions: Iterable[BatchQuestion]) -> Iterator[list[NDArray[np.float32]]]:
        """What the target predicts along a given text, for each question in order.

        Args:
            questions: each with one option, the text.

        Yields:
            For each way of the question the log-probabilities before every token of its option, float32
            [tokens of the option, n_vocab].

        Raises:
            AtvError: when it is the turn of a question that cannot be evaluated.
        """
        for tree in self._scheduler.run(
            self._tree(replace(question, max_tokens=0), keep=True) for question in questions
        ):
            if tree.error:
                raise tree.error
            yield [np.array(head.children[0].distributions) for head in heads_of(tree)]

    def _trees(self, question: BatchQuestion, parts: deque[tuple[BatchQuestion, int]]) -> list[Tree]:
        """The question as one tree, or as several where one has more branches or tokens than fit at a time."""
        asked, trees = [question], []
        while asked:
            part = asked.pop()
            tree = self._tree(part)
            halves = () if tree.error or self._scheduler.holds(tree) else _halves(part)
            asked += reversed(halves)
            trees += [] if halves else [tree]
        parts.append((question, len(trees)))
        return trees

    def _outcomes(self, trees: Sequence[Tree]) -> tuple[Outcome, ...]:
        """Those of all parts, in the order of the ways; what the parts of one way say is put together."""
        found: list[Outcome] = []
        for tree in trees:
            part: BatchQuestion = tree.tag
            outcomes = [self._outcome(part, head) for head in heads_of(tree)]
            if part.goes_on:
                before, (more,) = found.pop(), outcomes
                options, greedy = before.options + more.options, before.greedy + more.greedy
                outcomes = [replace(before, options=options, greedy=greedy)]
            found += outcomes
        return tuple(found)

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
        return tree_of(question, min(question.max_tokens, room), keep=keep)

    def _outcome(self, question: BatchQuestion, head: Branch) -> Outcome:
        finish = None
        if question.max_tokens:
            longest = len(head.written) == question.max_tokens
            finish = Finish.STOP if head.ended else Finish.LENGTH if longest else Finish.CONTEXT
        options = tuple(sum(child.logprobs) for child in head.children)
        greedy = tuple(all(child.greedy) for child in head.children)
        return Outcome(text_of(self._vocabulary, head.written), tuple(head.written), finish, options, greedy)


def _halves(question: BatchQuestion) -> tuple[BatchQuestion, ...]:
    """Two questions that ask the same: of half the ways each, or in one way with half the options; none if neither."""
    if (middle := len(question.ways) // 2) and not question.goes_on:
        return replace(question, ways=question.ways[:middle]), replace(question, ways=question.ways[middle:])
    if middle := len(question.options) // 2:
        first, second = question.options[:middle], question.options[middle:]
        return replace(question, options=first), replace(question, options=second, max_tokens=0, goes_on=True)
    return ()


def tree_of(question: BatchQuestion, max_tokens: int, *, keep: bool = False) -> Tree:
    """What a question's ways have in common is evaluated once: all but the last token, unless one steers that too."""
    prompt = question.prompt
    after_shared: list[Branch] = []
    from_start: list[Branch] = []
    *prefix, last = prompt.tokens
    for way in question.ways:
        after = way.rows if way.steering.positions.generated else None
        sampled = question.sampling is not None and question.sampling.temperature > 0
        head = Branch(
            prompt.tokens if way.from_start else (last,),
            way.rows,
            children=[Branch(option, after, scored=True, keep=keep) for option in question.options],
            from_start=way.from_start,
            max_tokens=max_tokens,
            after=after,
            sampler=Sampler(question.sampling) if question.sampling and sampled else None,
            enough=question.enough,
        )
        (from_start if way.from_start else after_shared).append(head)
    if after_shared and (own := prefix[prompt.shared :]):
        after_shared = [Branch(own, children=after_shared)]
    shared = tuple(prefix[: prompt.shared]) if after_shared else ()
    return Tree(shared, [*after_shared, *from_start], tag=question)


def heads_of(tree: Tree) -> list[Branch]:
    """The branches that hold the prompt's last token, in the order of the question's ways."""
    question: BatchQuestion = tree.tag
    found = [branch for branch in tree.walk() if not branch.scored and (branch.max_tokens or _scores(branch))]
    plain = iter(branch for branch in found if not branch.from_start)
    whole = iter(branch for branch in found if branch.from_start)
    return [next(whole if way.from_start else plain) for way in question.ways]


def _scores(branch: Branch) -> bool:
    return any(child.scored for child in branch.children)


def text_of(vocabulary: Vocabulary, tokens: Sequence[int]) -> str:
    """Tokens as text; bytes that are no UTF-8 become U+FFFD."""
    return b"".join(map(vocabulary.piece, tokens)).decode("utf-8", "replace")
