"""Answers of an engine: events while one is written, and the complete answer."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from atv_local.generator import Precision, Provider, Reading
from atv_local.vectors import GateDecision, ScaledVector, Steering

if TYPE_CHECKING:
    from atv_local.answer.asked import Asked
    from atv_local.answer.engine import Engine


class Finish(StrEnum):
    """Why an answer ended: the target ended it, it reached `max_tokens`, or the context is full."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens an answer took."""

    prompt: int
    evaluated: int
    """Tokens of the prompt that were evaluated for this answer and not found in the cache."""
    generated: int


@dataclass(frozen=True)
class Timings:
    """Milliseconds since the query was given."""

    generator: float
    """Time the generator took, which overlaps the evaluation of an unsteered prefix."""
    first_token: float
    total: float


@dataclass(frozen=True)
class Event:
    """One piece of an answer and the state of the stream.

    The last event has `finish_reason` set and may have text that was held back.

    Attributes:
        text: the piece.
        token: the one just written. Its text may come with a later event, once a character is complete.
        tokens: counts of tokens so far.
        timings_ms: times in milliseconds; `total` is up to this event.
        finish_reason: why the answer ended; None before its end.
        probabilities: of each choice, where choices were given.
        gate: whether the query is steered, where the bundle has a gate.
    """

    text: str
    token: int
    tokens: TokenCounts
    timings_ms: Timings
    finish_reason: Finish | None = None
    probabilities: Mapping[str, float] | None = None
    gate: GateDecision | None = None


@dataclass(frozen=True)
class Answer:
    """A complete answer and how it came about.

    Attributes:
        text: what the target wrote.
        finish_reason: why it ended; None for an answer that was not read to its end.
        tokens: counts of tokens.
        timings_ms: times in milliseconds; None where many queries were answered together.
        steering: as it was applied, with the layers and the control vectors written out; strength 0 is the base model,
            also where the gate was closed.
        bundle: id of the bundle whose generator made the vector, None without one; of several, also where all gates
            were closed.
        precision: of the graph that the generator ran.
        provider: the execution provider that it ran on.
        probabilities: of each choice, where choices were given; together 1.
        reading: what the generator read of the query, None without one.
        gate: how well the query fits the tasks of the bundle, where that has a gate; of several, those of the bundle
            that it fits best.
        instruction: what was read before the query.
        static: whether the bundle's static vector steered in place of one for the query, as it is told of a task that
            is unlike its own.
    """

    text: str
    finish_reason: Finish | None
    tokens: TokenCounts
    timings_ms: Timings | None
    steering: Steering
    bundle: str | None = None
    precision: Precision | None = None
    provider: Provider | None = None
    probabilities: Mapping[str, float] | None = None
    reading: Reading | None = None
    gate: GateDecision | None = None
    instruction: str | None = None
    static: bool = False

    @classmethod
    def of(
        cls,
        engine: Engine,
        steering: Steering,
        *,
        text: str,
        finish_reason: Finish | None,
        tokens: TokenCounts,
        timings_ms: Timings | None = None,
        source: ScaledVector | None = None,
        probabilities: Mapping[str, float] | None = None,
        asked: Asked | None = None,
        gate: GateDecision | None = None,
    ) -> Answer:
        """An answer of an engine.

        Args:
            engine: names the bundle.
            steering: as it was asked for.
            text: what the target wrote.
            finish_reason: why it ended.
            tokens: counts of tokens.
            timings_ms: times, where they were taken.
            source: the vector that was given with the query, if one was.
            probabilities: of each choice, where choices were given.
            asked: what was read for the query.
            gate: the decision on the query.
        """
        steered_by_query = not (source or steering.off)
        generator = engine.chosen_generator(gate) if steered_by_query else None
        steering = engine.applied_steering(gate, steering) if steered_by_query else steering
        if source or engine.control_vectors or steering.control_vectors:
            vectors = (source,) if source and not steering.off else engine.control_vectors_of(steering)
            steering = replace(steering, control_vectors=vectors)
        if gate and not gate.steered and not steering.control_vectors:
            steering = replace(steering, strength=0.0)
        if not steering.off:
            steering = replace(steering, layers=steering.range(engine.target.n_rows))
        return cls(
            text,
            finish_reason,
            tokens,
            timings_ms,
            steering,
            bundle=generator.bundle.id if generator else None,
            precision=generator.precision if generator else None,
            provider=generator.provider if generator else None,
            probabilities=probabilities,
            reading=generator.read(asked.text) if generator and asked else None,
            gate=gate,
            instruction=asked.instruction if asked else None,
            static=bool(asked and asked.static and not steering.off),
        )

    @classmethod
    def of_event(
        cls,
        engine: Engine,
        steering: Steering,
        text: str,
        event: Event,
        source: ScaledVector | None = None,
        *,
        asked: Asked | None = None,
    ) -> Answer:
        """The answer written so far, from the last event of a stream; see `of`."""
        return cls.of(
            engine,
            steering,
            text=text,
            finish_reason=event.finish_reason,
            tokens=event.tokens,
            timings_ms=event.timings_ms,
            source=source,
            probabilities=event.probabilities,
            asked=asked,
            gate=event.gate,
        )

    @classmethod
    def of_events(
        cls,
        engine: Engine,
        steering: Steering,
        events: Generator[Event],
        source: ScaledVector | None = None,
        *,
        asked: Asked | None = None,
    ) -> Answer:
        """The answer that a stream writes, read to its end; see `of`."""
        with closing(events):
            pieces = list(events)
        text = "".join(event.text for event in pieces)
        return cls.of_event(engine, steering, text, pieces[-1], source, asked=asked)

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON has it, which is what `atv-local run --json` prints; times are rounded to 0.01 ms."""
        steered = not self.steering.off
        layers = self.steering.layers
        times = None if self.timings_ms is None else {k: round(v, 2) for k, v in asdict(self.timings_ms).items()}
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "tokens": asdict(self.tokens),
            "timings_ms": times,
            "bundle": self.bundle,
            "precision": self.precision,
            "provider": self.provider,
            "strength": self.steering.strength,
            "layers": list(layers) if steered and layers else None,
            "positions": self.steering.positions if steered else None,
            "control_vectors": [vector.as_dict() for vector in self.steering.control_vectors or ()],
            **({} if self.instruction is None else {"instruction": self.instruction}),
            **({"static": True} if self.static else {}),
            **({} if self.reading is None else self.reading.as_field()),
            **({} if self.probabilities is None else {"probabilities": dict(self.probabilities)}),
            **({} if self.gate is None else {"gate": self.gate.as_dict()}),
        }

    def __str__(self) -> str:
        return self.text
