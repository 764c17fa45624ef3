"""Query to vector to a stream of events. Everything that answers, whoever asks, reads this one stream."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from time import perf_counter

from atv_local.errors import PromptError, UsageError
from atv_local.generator import Generator
from atv_local.target import Prompt, Sampler, Sampling, Target
from atv_local.vectors import Positions, Steering, TaskVector

OFF = Steering(strength=0.0)
"""No steering: the base model answers."""


class Finish(StrEnum):
    """Why an answer ended: the target said so, or it reached `max_tokens`, or the context is full."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"


@dataclass(frozen=True)
class Event:
    """One piece of an answer and where the stream is; times are in ms since the query was given.

    The last event has `finish` set and may carry remaining text.
    """

    text: str
    token: int
    """The token that gave it; its text may come later, with the rest of a character."""
    prompt_tokens: int
    evaluated_tokens: int
    """Prompt tokens that were not already in the cache."""
    generated_tokens: int
    generator_ms: float
    """Time the generator took; it overlaps the evaluation of an unsteered prefix."""
    first_token_ms: float
    total_ms: float
    finish: Finish | None = None


class Engine:
    """A target and, if it shall be steered, a generator made for it, a static vector, or both.

    Args:
        static: added to the vector of every query, in all its layers and at the generator's positions; without a
            generator it steers all tokens, as llama.cpp's own tools do.

    Answers do not depend on each other. One answer at a time: an engine is not for several threads.

    Raises:
        BundleError: a generator made for another target.
    """

    def __init__(self, target: Target, generator: Generator | None = None, static: TaskVector | None = None) -> None:
        self.target, self.generator, self.static = target, generator, static
        self._layers: tuple[int, int] | None = None
        self.steering = OFF if static is None else Steering(positions=Positions.ALL)
        """What `stream` uses unless told otherwise: what the bundle says."""
        if generator is not None:
            generator.bundle.check_target(target.spec)
            self.steering = generator.bundle.manifest.steering
            self._layers = self.steering.layers
            if static is not None:
                self.steering = replace(self.steering, layers=None)
        self._turn = object()
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._format = lru_cache(maxsize=8)(lambda system: target.prompts.after(system=system))

    def vector(self, query: str) -> TaskVector:
        """The vector that steers the answer to a query, float32 [n_layer-1, n_embd].

        Raises:
            UsageError: an empty query, one that is no Unicode text, or an engine with nothing to steer by.
        """
        check_query(query)
        if self.generator is None:
            if self.static is None:
                raise UsageError("no generator is loaded, so the target cannot be steered; name one with `bundle=...`")
            return self.static
        made = self.generator(query)
        if self.static is None:
            return made
        return (made.only(*self._layers) if self._layers else made) + self.static

    def stream(
        self,
        query: str,
        *,
        vector: TaskVector | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = 256,
        system: str | None = None,
        prompt: Prompt | None = None,
    ) -> Iterator[Event]:
        """Answer a query, token by token.

        Args:
            query: the user's words; the chat template of the GGUF is put around them for the target alone.
            vector: steer with this vector and no other.
            steering: by default `self.steering`; all layers at strength 1 for a given vector without a generator.
            max_tokens: of the answer, at least 1.
            system: a system message.
            prompt: what the target reads instead of the query, such as the conversation that the query ends; the query
                still makes the vector.

        Raises:
            UsageError: an empty query, `max_tokens` below 1, steering that this target does not have, or another
                answer begun on this engine before this one has ended.
            PromptError: a prompt that leaves no room for an answer in the context.
        """
        started = perf_counter()
        if steering is None:
            steering = Steering() if vector is not None and self.steering.off else self.steering
        if prompt is None or not (steering.off or vector):
            check_query(query)
        if max_tokens < 1:
            raise UsageError(f"`max_tokens` {max_tokens} is below 1")
        prompt = prompt or self._format(system)(query)
        if len(prompt.tokens) >= self.target.n_ctx:
            raise PromptError(
                f"the prompt has {len(prompt.tokens)} tokens and the context {self.target.n_ctx}; "
                "shorten it or raise `n_ctx`"
            )
        self._turn = turn = object()
        sampler = Sampler(sampling or Sampling())
        evaluated_before = self.target.n_evaluated
        try:
            generator_ms = self._prompt(prompt, query, vector, steering)
            evaluated = self.target.n_evaluated - evaluated_before
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            first_ms = 0.0
            for count in range(1, max_tokens + 1):
                token = sampler(self.target)
                ended = self.target.vocabulary.ends(token)
                text = "" if ended else decoder.decode(self.target.vocabulary.piece(token))
                finish = self._finish(ended, count == max_tokens)
                if finish:
                    text += decoder.decode(b"", final=True)
                total_ms = 1000 * (perf_counter() - started)
                first_ms = first_ms or total_ms
                sizes = len(prompt.tokens), evaluated, count - ended
                yield Event(text, token, *sizes, generator_ms, first_ms, total_ms, finish)
                if finish:
                    return
                if turn is not self._turn:
                    raise UsageError("another answer was begun on this engine before this one had ended")
                self.target.evaluate([token])
        finally:
            if turn is self._turn:  # else the vector is another answer's
                self.target.clear()

    def _finish(self, ended: bool, longest: bool) -> Finish | None:
        if ended:
            return Finish.STOP
        if longest:
            return Finish.LENGTH
        return Finish.CONTEXT if self.target.n_past == self.target.n_ctx else None

    def _prompt(self, prompt: Prompt, query: str, vector: TaskVector | None, steering: Steering) -> float:
        """Evaluate the prompt under its vector; the generator works while the unsteered prefix is evaluated."""
        segments, last = prompt.segments, prompt.tokens[-1]
        if steering.off:
            self.target.prefill(*segments)
            self.target.evaluate([last])
            return 0.0
        pending = self._worker.submit(self._timed_vector, query, vector)
        try:
            self.target.prefill(*(() if steering.positions.prefix else segments))
        except BaseException:
            pending.cancel()  # nobody waits for it any more
            raise
        made, generator_ms = pending.result()
        self.target.apply(steering.apply(made))
        self.target.evaluate(prompt.tokens if steering.positions.prefix else [last])
        if not steering.positions.generated:
            self.target.clear()
        return generator_ms

    def _timed_vector(self, query: str, given: TaskVector | None) -> tuple[TaskVector, float]:
        started = perf_counter()
        return given or self.vector(query), 1000 * (perf_counter() - started)


def check_query(query: str) -> None:
    """Raise UsageError for a query that is empty or no Unicode text."""
    if not query.strip():
        raise UsageError("the query is empty; say something to answer")
    try:
        query.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, as undecodable bytes become in Python
        raise UsageError(f"the query is not UTF-8 text: {error.reason} at character {error.start}") from error
