"""A conversation in which every turn is steered by its own vector.

The target reads the whole conversation, the generator only the message that is answered. With positions `last` and
`decode` earlier turns are evaluated without a vector, so their keys and values are reused; only the last answer, which
was written under its own vector, is evaluated again. With `all` the whole conversation is evaluated under each turn's
vector, if it has one.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from atv_local.answer.answer import Answer, Event
from atv_local.answer.asked import Asked, said_instruction
from atv_local.answer.constraint import Choices, Schema, is_auto, of_task
from atv_local.answer.engine import Engine
from atv_local.answer.queries import check_query, check_settings
from atv_local.data import as_max_tokens
from atv_local.errors import AtvError, PromptError, UsageError
from atv_local.target import DEFAULT_MAX_TOKENS, Grammar, Message, Prompt, Sampling
from atv_local.vectors import OFF, Steering

INTERRUPTED = "interrupted"
"""The `finish_reason` of an answer that was stopped before its end."""


@dataclass(frozen=True)
class Turn:
    """One message of the user and its answer.

    Attributes:
        query: the user's message.
        answer_text: the text that answers it.
        record: how the answer came about, as `Answer.as_dict` has it without the text, and the sampling.
        asked: what was read for the message and how it was steered; None for a turn that was not answered here, such as
            one read from a file.
        system: the system message that was read with it.
    """

    query: str
    answer_text: str
    record: Mapping[str, Any]
    asked: Asked | None = None
    system: str | None = None


class Conversation:
    """Turns with one engine.

    Assign to `task`, `instruction`, `system`, `steering`, `sampling`, `max_tokens`, `choices`, `schema` and `grammar`
    to change them for the following turns; they are checked when the next turn begins. `turns` changes only by answers,
    `restore` and `clear`.

    An answer is what a fresh engine with these settings gives to the same conversation, bit for bit.

    Args:
        engine: answers every turn.
        task: one of the bundle's tasks, whose instruction is read before each message, as for `Engine.answer`; so is
            `instruction`.
        instruction: what to do with each message, in words.
        system: a system message. When it changes, all turns are read after the new one.
        steering: steering of the next answers, by default the engine's.
        sampling: greedy by default; with a seed each answer draws from it anew.
        max_tokens: limit of an answer.
        choices: what answers are restricted to, as for `Engine.answer`; so are `schema` and `grammar`.

    Raises:
        UsageError: values of another type or out of range, or an engine that is closed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        task: str | None = None,
        instruction: str | None = None,
        system: str | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
    ) -> None:
        if not isinstance(engine, Engine):
            raise UsageError(f"`engine` {engine!r} is not an Engine; make one with atv_local.load")
        engine.check_open()
        self.engine, self.system, self.max_tokens = engine, system, max_tokens
        self.task, self.instruction = task, instruction
        self.steering = engine.steering if steering is None else steering
        self.sampling = Sampling() if sampling is None else sampling
        self.choices, self.schema, self.grammar = choices, schema, grammar
        self._turns: tuple[Turn, ...] = ()
        self._check_settings()
        self._format = engine.prompts

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns so far."""
        return self._turns

    @property
    def messages(self) -> list[Message]:
        """All messages, as chat templates and chat servers take them."""
        return self._messages(self.turns)

    @property
    def last(self) -> Turn:
        """The last turn.

        Raises:
            UsageError: nothing was asked yet.
        """
        if not self.turns:
            raise UsageError("nothing was asked yet")
        return self.turns[-1]

    def clear(self) -> None:
        """Forget the turns; the settings and the system message stay."""
        self._turns = ()

    def restore(self, system: str | None, turns: Iterable[Turn]) -> None:
        """Continue another conversation: replace the system message and the turns; the other settings stay."""
        self.system, self._turns = system, tuple(turns)

    def answer(self, text: str) -> Answer:
        """Answer the next turn, which becomes part of the conversation; `stream` gives the answer token by token.

        Args:
            text: the user's message.

        Raises:
            PromptError: the conversation is too long for the context.
            UsageError, ModelError: as `Engine.answer`.
        """
        asked = self._asked(text)
        events = self._events(asked, text, self.turns)
        return Answer.of_events(self.engine, asked.steering, events, asked=asked)

    def stream(self, text: str) -> Generator[Event]:
        """Answer the next turn, token by token.

        The turn becomes part of the conversation when the answer ends, or when it is stopped after its first words by
        closing this generator or by Ctrl-C. After an error, or when stopped earlier, the conversation is unchanged.

        Args:
            text: the user's message.

        Raises:
            PromptError: the conversation is too long for the context.
            UsageError, ModelError: as `Engine.stream`.
        """
        return self._answer(text, self.turns)

    def again(self) -> Generator[Event]:
        """Answer the last turn again, as `stream` does. Its answer stays until there is a new one.

        Raises:
            UsageError: nothing was asked yet.
        """
        return self._answer(self.last.query, self.turns[:-1])

    def compare(self, text: str | None = None) -> dict[str, Generator[Event]]:
        """Answer a text, or the last turn again, without and with steering. The conversation is unchanged.

        Both start with the same part of the conversation in the cache, so that their times can be compared.

        Returns:
            A stream for `without steering` and one for `with steering`.

        Raises:
            UsageError: nothing was asked yet, steering is off, or a setting of another type.
        """
        self._check_settings()
        if self.steering.off:
            raise UsageError("steering is off, which leaves nothing to compare; turn it on")
        before = self.turns if text is not None else self.turns[:-1]
        text = self.last.query if text is None else text
        both = {"without steering": OFF, "with steering": self.steering}
        return {name: self._compared(self._asked(text, steering), before) for name, steering in both.items()}

    def read_ahead(self) -> None:
        """Evaluate what is read before every next message, so that its answer begins sooner.

        That is above all the last answer, which was written under a vector and is read without one. Does nothing where
        the whole prompt is steered.

        Raises:
            UsageError: the engine is closed, or an answer is unfinished.
            ModelError: the chat template or llama.cpp fails.
        """
        self._evaluate_ahead(self._ahead())

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Do so in a thread while the body runs, such as one that waits for the user; it must not use the engine.

        What is not evaluated in the end is left to the next answer, which also says what is wrong.
        """
        ended, segments = threading.Event(), list[tuple[int, ...]]()
        with suppress(AtvError):
            segments = self._ahead()

        def work() -> None:
            with suppress(AtvError):
                self._evaluate_ahead(segments, ended)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _ahead(self) -> list[tuple[int, ...]]:
        """The segments that every next prompt begins with."""
        target, steering = self.engine.target, self.steering
        if not steering.off and steering.positions.prefix:
            return []
        return self._format.ahead(self._messages(self.turns), target.n_ctx)

    def _evaluate_ahead(self, segments: Sequence[tuple[int, ...]], ended: threading.Event | None = None) -> None:
        if segments:
            with self.engine.target.turn():
                self.engine.target.prefill(*segments, ended=ended)

    def prompt(self, text: str, turns: Sequence[Turn] | None = None) -> Prompt:
        """The prompt that the target reads for a message after these turns, by default all.

        Raises:
            UsageError: no text.
            PromptError: more tokens than the context holds with an answer.
            ModelError: the chat template does not take it.
        """
        return self._prompt(self._asked(text), self.turns if turns is None else turns)

    def _prompt(self, asked: Asked, turns: Sequence[Turn]) -> Prompt:
        before, n_ctx = self._messages(turns), self.engine.target.n_ctx
        prompt = self._format.conversation([*before, {"role": "user", "content": asked.text}], n_ctx)
        n_tokens = len(prompt.tokens)
        if n_tokens >= n_ctx:
            raise PromptError(
                f"the conversation has {n_tokens} tokens with this turn and the context {n_ctx}; "
                "clear it or raise `n_ctx`"
            )
        return prompt

    def _asked(self, text: str, steering: Steering | None = None) -> Asked:
        self.engine.check_open()
        check_query(text)
        self._check_settings()
        constraint = self.engine.constraint(self.choices, self.schema, self.grammar, task=self.task)
        return self.engine.asked(
            text,
            task=self.task,
            instruction=self.instruction,
            choices=constraint.choices if constraint else (),
            steering=self.steering if steering is None else steering,
        )

    def _check_settings(self) -> None:
        check_settings(self.steering, self.sampling, self.system)
        said_instruction(self.task, self.instruction, (), self.engine.tasks)
        as_max_tokens(self.max_tokens)
        self.max_tokens = int(self.max_tokens)
        constraint = self.engine.constraint(self.choices, self.schema, self.grammar, task=self.task)
        if constraint and constraint.choices and not is_auto(self.choices):
            self.choices = constraint.choices  # any iterable may be given, and is read once

    def _messages(self, turns: Sequence[Turn]) -> list[Message]:
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for turn in turns:
            messages += [{"role": "user", "content": turn.query}, {"role": "assistant", "content": turn.answer_text}]
        return messages

    def _stream(self, asked: Asked, prompt: Prompt) -> Generator[Event]:
        return self.engine.stream(
            asked,
            prompt=prompt,
            steering=asked.steering,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            choices=of_task(self.choices, self.task),
            schema=self.schema,
            grammar=self.grammar,
        )

    def _answer(self, text: str, before: tuple[Turn, ...]) -> Generator[Event]:
        return self._events(self._asked(text), text, before)

    def _events(self, asked: Asked, text: str, before: tuple[Turn, ...]) -> Generator[Event]:
        prompt = self._prompt(asked, before)
        steering, system = asked.steering, self.system
        settings = {**asdict(self.sampling), "max_tokens": self.max_tokens}
        written, last = "", None

        def save_turn() -> None:
            if last is not None:
                answer = Answer.of_event(self.engine, steering, written, last, asked=asked)
                record = answer.as_dict() | {"sampling": settings}
                record["finish_reason"] = record["finish_reason"] or INTERRUPTED
                text_of_answer = record.pop("text")
                self._turns = (*before, Turn(text, text_of_answer, record, asked, system))

        with closing(self._stream(asked, prompt)) as events:
            try:
                for event in events:
                    written, last = written + event.text, event
                    yield event
            except (GeneratorExit, KeyboardInterrupt):
                if written:
                    save_turn()
                raise
            save_turn()

    def __repr__(self) -> str:
        return f"Conversation({len(self.turns)} turns, {self.engine!r})"

    def _compared(self, asked: Asked, before: Sequence[Turn]) -> Generator[Event]:
        prompt = self._prompt(asked, before)
        with self.engine.target.turn():
            self.engine.target.prefill(*prompt.segments[:-1])
        yield from self._stream(asked, prompt)
