"""The state of a chat and its output: answers on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from atv_cli.chat.corrections import DEFAULT_FILE
from atv_local.answer import Finish
from atv_local.errors import UsageError
from atv_local.generator import GENERATOR_READ
from atv_local.text import one_line, strip_control

if TYPE_CHECKING:
    from atv_local.answer import Conversation, Event
    from atv_local.vectors import ScaledVector

MORE_CONTEXT = "/clear starts a new conversation, and a larger --n-ctx holds more"
_SHOWN = 3
"""Choices whose probabilities are shown after an answer."""


class Session:
    """One conversation at a terminal or a pipe, with the settings that are not the conversation's own.

    Raises:
        UsageError: layers that the target does not have.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.interactive: bool = sys.stdin.isatty()
        self.verbose: bool = self.interactive and sys.stderr.isatty()
        """Whether a line after each answer says what it cost."""
        self.corrections = DEFAULT_FILE
        """Where right answers are saved."""
        self._strength: float = conversation.steering.strength or conversation.engine.steering.strength or 1.0
        """The strength that `on` restores."""
        conversation.steering.range(conversation.engine.target.n_rows)  # raises now and not at every turn
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @property
    def model(self) -> str:
        """The name of the target's file."""
        return self.conversation.engine.target.path.name

    @property
    def bundles(self) -> dict[str, str]:
        """What to call the bundles, by their ids."""
        return self.conversation.engine.bundle_names

    @property
    def layers(self) -> tuple[int, int]:
        """The first and the last layer that is steered."""
        return self.conversation.steering.range(self.conversation.engine.target.n_rows)

    @property
    def has_gate(self) -> bool:
        """Whether a bundle decides which turns it steers."""
        return self.conversation.engine.has_gate

    @property
    def restriction(self) -> str:
        """The setting that restricts the following answers; empty if none does."""
        names = ("choices", "schema", "grammar")
        return next((name for name in names if getattr(self.conversation, name) is not None), "")

    @property
    def state(self) -> str:
        """Whether the following turns are steered, for a message."""
        steering = self.conversation.steering
        return "steering is off" if steering.off else f"steering is on, strength {steering.strength:g}"

    def on(self) -> None:
        """Steer the following turns at the last strength that was not 0.

        Raises:
            UsageError: as `steer`.
        """
        self.steer(strength=self._strength)

    def off(self) -> None:
        """Steer the following turns no more; what was set stays for `on`."""
        self.conversation.steering = replace(self.conversation.steering, strength=0.0)

    def steer(self, **changes: Any) -> None:
        """Change the steering of the following turns.

        Raises:
            UsageError: nothing is loaded to steer with, or the target lacks a layer.
        """
        engine = self.conversation.engine
        steering = replace(self.conversation.steering, **changes)
        if engine.generator is None and not self.control_vectors:
            raise UsageError("no bundle is loaded to steer with; start the chat without --off, or give a /vector")
        steering.range(engine.target.n_rows)  # raises if the target lacks a layer
        self.conversation.steering = steering
        self._strength = steering.strength or self._strength

    @property
    def control_vectors(self) -> Sequence[ScaledVector]:
        """What is added to the vectors of the following turns, or steers them alone."""
        engine, given = self.conversation.engine, self.conversation.steering.control_vectors
        return engine.control_vectors if given is None else given

    def steer_by(self, control_vectors: Sequence[ScaledVector]) -> None:
        """Use these control vectors for the following turns, in place of those so far, and say if steering turns on.

        Vectors turn it on, and without a bundle the last one to go turns it off.

        Raises:
            VectorError: one that was made for another target.
        """
        conversation, before = self.conversation, self.conversation.steering
        steering = conversation.engine.with_control_vectors(control_vectors, before)
        if control_vectors and steering.off:
            steering = replace(steering, strength=self._strength)
        conversation.steering = steering
        self._strength = steering.strength or self._strength
        if steering.off != before.off:
            self.say(self.state)

    def answer(self, events: Generator[Event]) -> None:
        """Stream an answer of the conversation to stdout; Ctrl-C at a terminal stops it."""
        before, text, event = self.conversation.turns, "", None
        shown = strip_control if sys.stdout.isatty() else str
        try:
            with self.stoppable(events):
                for event in events:
                    text += event.text
                    print(shown(event.text), end="", flush=True)
        finally:
            answered = text or (event and event.finish_reason)  # some models answer with nothing
            if answered and not text.endswith("\n"):
                print(flush=True)
        if event is None or not event.finish_reason:
            removed = self.conversation.turns is before
            self.say("[stopped; the turn is removed]" if removed else "[stopped; the text so far stays]")
            return
        if event.finish_reason is Finish.LENGTH:
            self.say(f"[stopped after {event.tokens.generated} tokens; /set max_tokens allows more]")
        if event.finish_reason is Finish.CONTEXT:
            n_ctx = self.conversation.engine.target.n_ctx
            self.say(f"[the context of {n_ctx} tokens is full; {MORE_CONTEXT}]")
        record = self.conversation.last.record
        if (read := record.get(GENERATOR_READ)) and read["chars"] < read["of"]:
            self.say(f"[the generator read only the first {read['chars']} of {read['of']} characters of the message]")
        if self.verbose:
            bundle = self.bundles.get(record["bundle"], "") if len(self.bundles) > 1 else ""
            self.note(_cost(event, record["strength"], self.restriction, bundle))

    @contextlib.contextmanager
    def stoppable(self, *answers: Generator[Event]) -> Iterator[None]:
        """Close the answers in the end; at a terminal Ctrl-C ends them and not the chat."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.interactive:
                raise
        finally:
            for events in answers:
                events.close()

    def say(self, text: str) -> None:
        """Print a message that is not an answer."""
        print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a message dimmed, where the terminal can."""
        self._console.print(Text(text, style="dim"))


def _cost(event: Event, strength: float, restriction: str, bundle: str) -> str:
    cached = event.tokens.prompt - event.tokens.evaluated
    parts = [f"{event.tokens.evaluated} tokens evaluated, {cached} cached"]
    if strength:
        parts.append(f"{event.timings_ms.generator:.0f} ms vector")
    parts.append(f"{event.timings_ms.first_token:.0f} ms to first token")
    if event.gate and not event.gate.steered:
        parts.append(f"not steered, scores {event.gate.score:.2f} as {one_line(event.gate.task)}")
    else:
        parts += [f"bundle {one_line(bundle)}"] * bool(bundle)
        parts.append(f"strength {strength:g}" if strength else "steering off")
    if event.probabilities:
        likely = sorted(event.probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
        parts.append(", ".join(f"{one_line(choice)} {probability:.2f}" for choice, probability in likely))
    elif restriction:
        parts.append(f"under a {restriction}")
    return f"[{' · '.join(parts)}]"
