"""A conversation whose every turn is steered by a vector of its own. Knows nothing of terminals or files.

The target reads all that was said, the generator only the words of the turn that is answered. What was said before is
read as the base model reads it: only the last prompt token and the answer being written are steered (`decode`). So the
keys and values of earlier prompts are kept, and the answer before, which was written under a vector of its own, is
evaluated again. With `all` the whole conversation is evaluated under each turn's vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from atv_local.answer.engine import OFF, Engine, Event, check_query
from atv_local.answer.record import answer_record
from atv_local.errors import PromptError, UsageError
from atv_local.target import Message, Prompt, Sampling
from atv_local.vectors import Steering

INTERRUPTED = "interrupted"
"""The `finish_reason` of an answer that was stopped from outside."""


@dataclass(frozen=True)
class Turn:
    """What was asked, what was answered, and how: counts, times, steering and sampling, as JSON has them.

    `steering` is None of a turn that was not answered here.
    """

    asked: str
    answered: str
    how: Mapping[str, Any]
    steering: Steering | None = None


class Conversation:
    """Turns with one engine. Settings may change from turn to turn.

    Args:
        system: a system message; it may change too, and the turns then follow the new one.
        steering: of the next answers, by default the engine's.
        sampling: greedy unless given; with a seed each answer draws from it anew.
        max_tokens: of an answer.

    An answer is what a fresh engine with these settings gives to the same conversation, bit for bit.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        system: str | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = 256,
    ) -> None:
        self.engine, self.system, self.max_tokens = engine, system, max_tokens
        self.steering = engine.steering if steering is None else steering
        self.sampling = sampling or Sampling()
        self.turns: tuple[Turn, ...] = ()
        self._format = engine.target.prompts

    @property
    def messages(self) -> list[Message]:
        """What was said, as chat templates and chat servers take it."""
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
        self.turns = ()

    def say(self, text: str) -> Iterator[Event]:
        """Answer the next turn, token by token.

        It becomes part of the conversation when the answer ends, or is stopped after its first words: by closing this
        iterator, or by Ctrl-C. After an error, or when stopped before, the conversation is what it was.

        Raises:
            PromptError: the conversation is too long for the context.
            UsageError, ModelError: as `Engine.stream`.
        """
        return self._answer(text, self.turns)

    def again(self) -> Iterator[Event]:
        """Answer the last turn anew, as `say`; its answer is replaced only by a new one.

        Raises:
            UsageError: nothing was asked yet.
        """
        return self._answer(self.last.asked, self.turns[:-1])

    def compare(self, text: str | None = None) -> dict[str, Iterator[Event]]:
        """Answers to a text, or to the last turn again, without and with steering. The conversation stays as it is.

        Both begin with the same part of the conversation evaluated.

        Raises:
            UsageError: nothing was asked yet, or steering is off.
        """
        if self.steering.off:
            raise UsageError("steering is off, which leaves nothing to compare; turn it on")
        before = self.turns if text is not None else self.turns[:-1]
        text = self.last.asked if text is None else text
        both = {"without steering": OFF, "with steering": self.steering}
        return {name: self._beside(text, before, steering) for name, steering in both.items()}

    def prompt(self, text: str, turns: Sequence[Turn] | None = None) -> Prompt:
        """What the target reads when `text` is said after these turns, by default all.

        Raises:
            UsageError: no text.
            PromptError: more tokens than the context holds with an answer.
            ModelError: the chat template does not take it.
        """
        check_query(text)
        before = self._messages(self.turns if turns is None else turns)
        n_ctx = self.engine.target.n_ctx
        prompt = self._format.conversation([*before, {"role": "user", "content": text}], n_ctx)
        n_tokens = len(prompt.tokens)
        if n_tokens >= n_ctx:
            raise PromptError(
                f"the conversation has {n_tokens} tokens with this turn and the context {n_ctx}; "
                "clear it or raise `n_ctx`"
            )
        return prompt

    def _messages(self, turns: Sequence[Turn]) -> list[Message]:
        said: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for turn in turns:
            said += [{"role": "user", "content": turn.asked}, {"role": "assistant", "content": turn.answered}]
        return said

    def _stream(self, text: str, prompt: Prompt, steering: Steering) -> Iterator[Event]:
        return self.engine.stream(
            text, prompt=prompt, steering=steering, sampling=self.sampling, max_tokens=self.max_tokens
        )

    def _answer(self, text: str, before: tuple[Turn, ...]) -> Iterator[Event]:
        steering, settings = self.steering, {**asdict(self.sampling), "max_tokens": self.max_tokens}
        said, last = "", None

        def keep() -> None:
            if last is not None:
                how = answer_record(self.engine, steering, last) | {"sampling": settings}
                how["finish_reason"] = how["finish_reason"] or INTERRUPTED
                self.turns = (*before, Turn(text, said, how, steering))

        with closing(self._stream(text, self.prompt(text, before), steering)) as events:  # type: ignore[type-var]
            try:
                for event in events:
                    said, last = said + event.text, event
                    yield event
            except (GeneratorExit, KeyboardInterrupt):
                if said:
                    keep()
                raise
            keep()

    def _beside(self, text: str, before: Sequence[Turn], steering: Steering) -> Iterator[Event]:
        prompt = self.prompt(text, before)
        self.engine.target.prefill(*prompt.segments[:-1])
        yield from self._stream(text, prompt, steering)
