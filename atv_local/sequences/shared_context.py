"""One llama.cpp context for many targets: what their threads ask for is evaluated together, step by step.

A step has the next token of every answer, each under its own vector, and pieces of a few prompts. Answers begin and end
at any step. What prompts begin with is evaluated once and then copied. This module knows neither queries nor requests,
only tokens of numbered sequences.

Everything is evaluated in one thread, also what is tried when the context is made: of a second thread that evaluates,
OpenMP keeps threads of their own, and with more threads than cores they sleep at every barrier instead of waiting,
which takes 40 % longer for a token.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from time import monotonic

from atv_local.errors import AtvError, ModelError, UsageError
from atv_local.sequences.sequence_context import CELLS, MAX_PIECE, SequenceContext
from atv_local.sequences.token_context import Token
from atv_local.sequences.wanted import Wanted
from atv_local.target import Model

_log = logging.getLogger(__name__)

_PROMPT_TOKENS = 256
"""Tokens of all pieces of prompts in a step: with more, answers wait longer; with fewer, requests drift apart."""
_PATIENCE = 0.005
"""Seconds that a step waits for answers that were written by the last one and have not asked for their next token."""


_LOST = "this answer was interrupted, or lost as llama.cpp failed in another one; ask again"


class SharedContext:
    """A context of sequences, and the thread that evaluates in it. `close` it.

    Args:
        model: its weights are shared with all other contexts.
        n_sequences: targets that use it at a time, at most 255.
        n_ctx: tokens of each.
        n_threads: threads of llama.cpp.

    Raises:
        UsageError: llama.cpp cannot make such a context.
        ModelError: the architecture cannot be steered token by token, or has a recurrent state.
    """

    def __init__(self, model: Model, *, n_sequences: int, n_ctx: int, n_threads: int) -> None:
        unscaled = model.n_ctx_unscaled
        if n_ctx <= unscaled:  # in a larger context than the target's the same tokens could have other logits
            n_ctx = min(n_ctx, unscaled // CELLS * CELLS)
            if not n_ctx:
                raise ModelError(f"the positions of {model.path} are scaled beyond {unscaled} tokens")
        self.name = f"the target {model.path.name}"
        self.n_ctx, self.n_batch = n_ctx, MAX_PIECE
        self._unused = [*reversed(range(n_sequences))]
        self._condition = threading.Condition()
        self._wanted: dict[int, Wanted] = {}
        """By sequence."""
        self._begun: dict[int, int] = {}
        """When the sequences that do not rest began: a number that grows."""
        self._n_begun = 0
        self._expected: set[int] = set()
        """Sequences that were part of the last step and may soon ask for the next one."""
        self._lost: set[int] = set()
        """Sequences that a failure or an interrupt has changed, and whose targets do not know it."""
        self._beginnings: OrderedDict[tuple[int, ...], bytes] = OrderedDict()
        """States by their tokens, the one used last at the end; together no more tokens than a sequence has."""
        self._closed = False
        made: Future[SequenceContext] = Future()

        def work() -> None:
            try:
                sizes = {"n_sequences": n_sequences, "n_ctx": n_ctx, "n_threads": n_threads}
                made.set_result(SequenceContext(model, **sizes, apart=True))
            except BaseException as error:  # raised again by the caller
                made.set_exception(error)
            else:
                ready.wait()
                self._run()

        ready = threading.Event()
        self._thread = threading.Thread(target=work, name="shared context", daemon=True)
        self._thread.start()
        self._context = made.result()
        ready.set()

    def take(self) -> int:
        """The number of one of its sequences, for `SharedSequence`.

        Raises:
            UsageError: all are taken.
        """
        if not self._unused:
            raise UsageError("all sequences of this context are taken")
        return self._unused.pop()

    def check_open(self) -> None:
        """Raise UsageError after `close`, and in a process that was forked since."""
        if self._closed:
            raise UsageError(f"{self.name} is closed; load it again")
        self._context.check_open()

    @property
    def out_of_reach(self) -> bool:
        """Whether nothing can be changed any more."""
        return self._closed or self._context.out_of_reach

    def close(self) -> None:
        """End the thread after its step, and free the context. What waits ends with a UsageError."""
        if self._context.out_of_reach:  # a forked process has no such thread, and its lock may be held forever
            self._closed = True
            return
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()
        self._context.close()

    def post(self, wanted: Wanted) -> None:
        """Let some tokens be evaluated with the next step.

        Raises:
            AtvError: they cannot be, or the context is closed.
        """
        with self._condition:
            self.check_open()
            if wanted.sequence in self._lost and wanted.builds_on:
                raise ModelError(_LOST)
            self._lost.discard(wanted.sequence)
            self._wanted[wanted.sequence] = wanted
            if wanted.sequence not in self._begun:
                self._begun[wanted.sequence] = self._n_begun = self._n_begun + 1
            self._expected.discard(wanted.sequence)
            if len(self._wanted) == 1 or not self._expected:
                self._condition.notify()

    def take_back(self, wanted: Wanted) -> None:
        """Leave out what was posted, or wait for it if its step has begun; whether it was evaluated does not matter."""
        with self._condition:
            if self._wanted.get(wanted.sequence) is wanted:
                del self._wanted[wanted.sequence]
                wanted.end(None)
        wanted.done.wait()

    def wait(self, wanted: Wanted) -> None:
        """Wait until what was posted is evaluated.

        Raises:
            AtvError: it cannot be, or the context is closed.
        """
        try:
            wanted.done.wait()
        except BaseException:
            with self._condition:
                if self._wanted.get(wanted.sequence) is wanted:
                    del self._wanted[wanted.sequence]
                self._lost.add(wanted.sequence)
            raise
        if wanted.error is not None:
            raise wanted.error

    def is_lost(self, sequence: int) -> bool:
        """Whether a failure or an interrupt has changed what a sequence has."""
        return sequence in self._lost

    def give_back(self, sequence: int) -> None:
        """A sequence is not used any more."""
        self.rest(sequence)
        self._unused.append(sequence)

    def rest(self, sequence: int) -> None:
        """A sequence asks for nothing for now, so that no step waits for it."""
        if self._context.out_of_reach:
            return
        with self._condition:
            self._expected.discard(sequence)
            self._begun.pop(sequence, None)
            if self._wanted and not self._expected:
                self._condition.notify()

    def beginning(self, tokens: tuple[int, ...]) -> bytes | None:
        """The state of a sequence that has these tokens, if it is kept."""
        with self._condition:
            if tokens in self._beginnings:
                self._beginnings.move_to_end(tokens)
            return self._beginnings.get(tokens)

    def state_bytes(self, sequence: int) -> int:
        """Bytes of a sequence's state."""
        return len(self._context.state(sequence))

    def _run(self) -> None:
        step: list[Wanted] | None = []
        try:
            while (step := self._next_step()) is not None:
                reason = self._evaluate(step)
                with self._condition:
                    self._expected.update(wanted.sequence for wanted in step)
                for wanted in step:
                    wanted.end(None if reason is None else ModelError(reason))
        finally:
            with self._condition:
                self._closed = True
                waiting, self._wanted = self._wanted, {}
            for wanted in [*(step or ()), *waiting.values()]:
                if not wanted.done.is_set():
                    wanted.end(UsageError(f"{self.name} is closed; load it again"))

    def _next_step(self) -> list[Wanted] | None:
        """What to evaluate next, once there is something; None when the context is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._wanted or self._closed)
            end = monotonic() + _PATIENCE
            while self._expected and not self._closed and (left := end - monotonic()) > 0:
                self._condition.wait(left)
            self._expected.clear()
            if self._closed:
                return None
            step, n_prompt = [], 0
            for wanted in sorted(self._wanted.values(), key=lambda wanted: self._begun.get(wanted.sequence, 0)):
                n_tokens = len(wanted.tokens)
                if n_tokens > 1 and n_prompt and n_prompt + n_tokens > _PROMPT_TOKENS:
                    n_prompt = _PROMPT_TOKENS  # no later prompt is evaluated before this one
                    continue
                n_prompt += n_tokens if n_tokens > 1 else 0
                step.append(wanted)
            for wanted in step:
                del self._wanted[wanted.sequence]
            return step

    def _evaluate(self, step: Sequence[Wanted]) -> str | None:
        """Evaluate a step; returns why it failed, if it did."""
        tokens: list[Token] = []
        places: list[Wanted] = []
        for wanted in step:
            for place, token in enumerate(wanted.tokens):
                output = wanted.every or place + 1 == len(wanted.tokens)
                tokens.append(Token(token, wanted.position + place, wanted.sequence, wanted.vector, output))
                places.append(wanted)
        try:
            for wanted in step:
                self._prepare(wanted)
            self._context.decode(tokens, lambda index, row: places[index].rows.append(self._context.view(row).copy()))
        except Exception as error:  # too little memory, for one: the thread has to go on
            self._lose(step)
            if isinstance(error, AtvError):
                return str(error)
            _log.exception("a step failed unexpectedly")
            return f"llama.cpp could not evaluate {len(tokens)} tokens: {str(error) or type(error).__name__}"
        return None

    def _lose(self, step: Sequence[Wanted]) -> None:
        """Empty all sequences after a failure, and end what waits for more tokens of one that was not empty."""
        self._context.reset()
        with self._condition:
            ended = [wanted for wanted in self._wanted.values() if wanted.builds_on]
            for wanted in ended:
                del self._wanted[wanted.sequence]
            known = {wanted.sequence for wanted in [*step, *self._wanted.values(), *ended]}
            self._lost.update({*range(self._context.n_sequences)} - known)
        for wanted in ended:
            wanted.end(ModelError(_LOST))

    def _prepare(self, wanted: Wanted) -> None:
        """Let a sequence have what comes before the tokens, and keep that for others if they may need it."""
        if wanted.state is not None:
            self._context.drop(wanted.sequence)
            self._context.set_state(wanted.sequence, wanted.state)
        self._context.cut(wanted.sequence, wanted.keep)
        if wanted.beginning:
            state = self._context.state(wanted.sequence)
            with self._condition:
                self._beginnings[wanted.beginning] = state
                while sum(map(len, self._beginnings)) > self.n_ctx:
                    self._beginnings.popitem(last=False)
