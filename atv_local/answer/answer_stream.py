"""Generates the tokens of an answer from a prompt and its vector, one answer at a time."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from atv_local.answer.answer import Event, Finish, Timings, TokenCounts
from atv_local.answer.constraint import Constraint, choose_answer
from atv_local.answer.router import GatedVector
from atv_local.errors import PromptError, UsageError
from atv_local.target import GrammarState, Prompt, Sampler, Sampling, Target, score_options
from atv_local.vectors import GateDecision, Positions, TaskVector


class AnswerStream:
    """Writes the answers of one target, each in a turn of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._worker = ThreadPoolExecutor(max_workers=1)

    def events(
        self,
        prompt: Prompt,
        find: Callable[[], GatedVector] | None,
        steers_prefix: bool,
        sampling: Sampling,
        max_tokens: int,
        started: float,
        constraint: Constraint | None = None,
        options: Callable[[str], Sequence[int]] = lambda _: (),
    ) -> Generator[Event]:
        """The answer to a prompt, token by token; what can be checked is checked at once.

        Args:
            prompt: what the target reads.
            find: what steers, called in another thread; None where steering is off.
            steers_prefix: whether that may steer tokens before the last one of the prompt.
            sampling: how tokens are drawn.
            max_tokens: of the answer.
            started: `perf_counter` when the query was given.
            constraint: what the answer is restricted to. A choice is one event, whatever `max_tokens` is.
            options: the tokens of a choice, with the one that ends an answer.

        Raises:
            UsageError: the target is closed, or an answer that this thread has begun on it is unfinished.
            PromptError: the prompt leaves no room for an answer.
        """
        target = self._target
        target.check_open()
        if len(prompt.tokens) >= target.n_ctx:
            raise PromptError(
                f"the prompt has {len(prompt.tokens)} tokens and the context {target.n_ctx}; "
                "shorten it or raise `n_ctx`"
            )
        if constraint is not None and constraint.choices:
            return self._in_turn(
                self._choose(prompt, find, steers_prefix, sampling, started, constraint.choices, options)
            )
        grammar = constraint and constraint.grammar
        sampler = Sampler(sampling, GrammarState(grammar, target.vocabulary) if grammar else None)
        return self._in_turn(self._write(prompt, find, steers_prefix, sampler, max_tokens, started))

    def _in_turn(self, events: Generator[Event]) -> Generator[Event]:
        target = self._target
        with target.turn() as turn:
            try:
                for event in events:
                    if event.finish_reason:
                        break
                    turn.pause()
                    yield event
                    turn.resume()
            finally:
                turn.resume()
                target.clear()
        yield event  # the last one, after which another answer may begin

    def _write(
        self,
        prompt: Prompt,
        find: Callable[[], GatedVector] | None,
        steers_prefix: bool,
        sampler: Sampler,
        max_tokens: int,
        started: float,
    ) -> Generator[Event]:
        target = self._target
        evaluated_before = target.n_evaluated
        gate, generator_ms = self._evaluate_prompt(prompt, find, steers_prefix)
        evaluated = target.n_evaluated - evaluated_before
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        first_ms = 0.0
        for count in range(1, max_tokens + 1):
            token = sampler(target)
            ended = target.vocabulary.ends(token)
            text = "" if ended else decoder.decode(target.vocabulary.piece(token))
            if count == 1 and prompt.begins_text:
                text = text.removeprefix(" ")
            finish = self._finish(ended, count == max_tokens)
            if finish:
                text += decoder.decode(b"", final=True)
            total_ms = 1000 * (perf_counter() - started)
            first_ms = first_ms or total_ms
            tokens = TokenCounts(len(prompt.tokens), evaluated, count - ended)
            if not finish:
                target.begin(token)
            yield Event(text, token, tokens, Timings(generator_ms, first_ms, total_ms), finish, gate=gate)
            if finish:
                return
            target.finish()

    def _choose(
        self,
        prompt: Prompt,
        find: Callable[[], GatedVector] | None,
        steers_prefix: bool,
        sampling: Sampling,
        started: float,
        choices: Sequence[str],
        options: Callable[[str], Sequence[int]],
    ) -> Generator[Event]:
        target = self._target
        evaluated_before = target.n_evaluated
        gate, generator_ms = self._evaluate_prompt(prompt, find, steers_prefix)
        evaluated = target.n_evaluated - evaluated_before
        tokens = {choice: options(choice) for choice in choices}
        choice, probabilities = choose_answer(choices, score_options(target, list(tokens.values())), sampling)
        total_ms = 1000 * (perf_counter() - started)
        counts = TokenCounts(len(prompt.tokens), evaluated, len(tokens[choice]) - 1)
        timings = Timings(generator_ms, total_ms, total_ms)
        yield Event(choice, tokens[choice][-1], counts, timings, Finish.STOP, probabilities, gate)

    def close(self) -> None:
        """End the thread."""
        self._worker.shutdown()

    def _finish(self, ended: bool, longest: bool) -> Finish | None:
        if ended:
            return Finish.STOP
        if longest:
            return Finish.LENGTH
        return Finish.CONTEXT if self._target.n_past == self._target.n_ctx else None

    def _evaluate_prompt(
        self, prompt: Prompt, find: Callable[[], GatedVector] | None, steers_prefix: bool
    ) -> tuple[GateDecision | None, float]:
        """Evaluate the prompt under its vector, which is made while the unsteered prefix is evaluated.

        Where the prefix may be steered, nothing is evaluated before it is known whether it is, so that what the cache
        has of it can be used if not.

        Returns:
            The decision of the gate, and the milliseconds that the generator took.
        """
        target, segments = self._target, prompt.segments
        if find is None:
            self._evaluate_unsteered(prompt)
            return None, 0.0
        try:
            pending = self._worker.submit(_timed, find)
        except RuntimeError as error:  # the interpreter exits, or another thread has closed the engine
            raise UsageError("the engine is closed; load it again") from error
        try:
            if not steers_prefix:
                target.prefill(*segments)
        except BaseException:
            pending.cancel()  # nothing waits for it any more
            raise
        gated, milliseconds = pending.result()
        if (rows := gated.rows) is None:
            self._evaluate_unsteered(prompt)
        else:
            self._evaluate_steered(prompt, rows, gated.steering.positions)
        return gated.gate, milliseconds

    def _evaluate_unsteered(self, prompt: Prompt) -> None:
        self._target.prefill(*prompt.segments)
        self._target.evaluate(prompt.tokens[-1:])

    def _evaluate_steered(self, prompt: Prompt, rows: TaskVector, positions: Positions) -> None:
        """Evaluate what is steered of the prompt, and leave the vector of the answer applied."""
        target, tokens = self._target, prompt.tokens
        target.prefill(*(() if positions.prefix else prompt.segments))
        if not positions.prefix:
            tokens = tokens[-1:]
        elif rows.prompt is not None and len(tokens) > 1:
            target.apply(rows.prompt)
            target.evaluate(tokens[:-1])
            tokens = tokens[-1:]
        target.apply(rows)
        target.evaluate(tokens)
        if not positions.generated:
            target.clear()


def _timed(find: Callable[[], GatedVector]) -> tuple[GatedVector, float]:
    started = perf_counter()
    gated = find()
    return gated, gated.spent_ms + 1000 * (perf_counter() - started)
