"""Questions to a batch and the replies to them: plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atv_local.answer import Asked, Finish, check_text
from atv_local.data import is_iterable
from atv_local.errors import AtvError, UsageError
from atv_local.target import Grammar, Prompt, Sampling
from atv_local.text import shown
from atv_local.vectors import OFF, GateDecision, Steering, TaskVector

if TYPE_CHECKING:
    from atv_local.answer import Engine


@dataclass(frozen=True)
class SteeredPrompt:
    """One way to evaluate a prompt: the rows that are added, and at which positions.

    Attributes:
        rows: a vector with strength and layers applied; None is the base model.
        steering: where it applies.
        gate: why there are rows or none, where a bundle with a gate read the query.
    """

    rows: TaskVector | None = None
    steering: Steering = OFF
    gate: GateDecision | None = None

    @classmethod
    def of(cls, steering: Steering, vector: TaskVector | None) -> SteeredPrompt:
        """The way in which a steering applies a vector."""
        return cls() if vector is None or steering.off else cls(steering.apply(vector), steering)

    @classmethod
    def of_asked(cls, engine: Engine, asked: Asked) -> SteeredPrompt:
        """The way in which an engine answers a query.

        Raises:
            UsageError, VectorError: as `Engine.gated_vector`.
        """
        if asked.steering.off:
            return cls()
        gated = engine.gated(asked)
        return replace(cls.of(gated.steering, gated.vector), gate=gated.gate)

    @property
    def from_start(self) -> bool:
        """Whether the whole prompt is steered, so that none of it is shared."""
        return self.rows is not None and self.steering.positions.prefix

    @property
    def prompt_rows(self) -> TaskVector | None:
        """What is added to the prompt's tokens before the last one where that is not `rows`."""
        return self.rows.prompt if self.rows is not None and self.from_start else None


@dataclass(frozen=True)
class BatchQuestion:
    """One prompt to answer, or to score options after, in one or several ways. `Batch.question` makes one of a query.

    Attributes:
        prompt: what the target reads.
        ways: how to evaluate it.
        max_tokens: limit of the answer; 0 generates none.
        options: token ids to score, as `PromptFormat.answer` gives them: with the token that ends an answer.
        sampling: greedy by default.
        choices: with these texts, whose tokens are `options`, the answer is one of them.
        grammar: what an answer that is written follows.
        enough: takes the tokens written so far; True ends the answer there.
        tag: whatever the caller wants to find in the reply.
        error: why it cannot be asked; the reply carries it, in its turn.
        asked: what is read for the query that it was made of.
        more_options: the options continue those of the question before, asked in the same way.

    Raises:
        UsageError: no ways, or neither tokens to write nor options to score.
    """

    prompt: Prompt
    ways: Sequence[SteeredPrompt] = (SteeredPrompt(),)
    max_tokens: int = 0
    options: Sequence[Sequence[int]] = ()
    sampling: Sampling | None = None
    choices: Sequence[str] = ()
    grammar: Grammar | None = None
    enough: Callable[[Sequence[int]], bool] | None = None
    tag: Any = None
    error: AtvError | None = None
    more_options: bool = False
    asked: Asked | None = None

    def __post_init__(self) -> None:
        if self.error is None and not (self.ways and (self.max_tokens > 0 or self.options)):
            raise UsageError("a question needs `ways`, and either `max_tokens` above 0 or `options`")


@dataclass(frozen=True)
class Outcome:
    """The result of a question in one of its ways.

    Attributes:
        text: the answer.
        tokens: those written, without the one that ended the answer.
        finish_reason: why it ended; None if nothing was to be written.
        options: log-probability of each option, in nats.
        greedy: for each option, whether a greedy answer begins with it.
        probabilities: of each choice, if the question has choices.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: Finish | None
    options: tuple[float, ...]
    greedy: tuple[bool, ...] = ()
    probabilities: Mapping[str, float] | None = None

    @property
    def n_generated(self) -> int:
        """Number of tokens written."""
        return len(self.tokens)


@dataclass(frozen=True)
class BatchReply:
    """The reply to a question.

    Attributes:
        question: as it was asked.
        outcomes: one for each of its ways; none after an error.
        n_evaluated: tokens evaluated for it alone, without those of a shared beginning.
        error: why there are no outcomes.
    """

    question: BatchQuestion
    outcomes: tuple[Outcome, ...]
    n_evaluated: int
    error: AtvError | None = None


def check_options(options: Iterable[str]) -> tuple[str, ...]:
    """Options to score, as a tuple.

    Raises:
        UsageError: not a list of texts.
    """
    if isinstance(options, str) or not is_iterable(options):
        raise UsageError(f"`options` {options!r} is not a list of texts, such as ['yes', 'no']")
    options = tuple(options)
    for option in options:
        check_text("one of `options`", option)
    return options


def check_question(question: BatchQuestion) -> None:
    """Raise UsageError for something else, such as a text."""
    if not isinstance(question, BatchQuestion):
        raise UsageError(f"{question!r} is not a BatchQuestion; make one with `Batch.question`")


def check_questions(questions: Iterable[BatchQuestion]) -> None:
    """Raise UsageError for one question or text, or what is not iterable; the questions are checked in their turn."""
    if isinstance(questions, BatchQuestion | str) or not is_iterable(questions):
        raise UsageError(f"`questions` {shown(questions)} is not a list of questions; pass [question]")
