"""One GGUF in llama.cpp: tokens and vectors in, logits out.

The cache consists of segments: runs of tokens that were evaluated without a vector, each in batches of its own. Only
whole leading segments are reused, so the same prompt is always evaluated in the same batches and gives the same bits,
whatever was answered before. Tokens evaluated under a vector are never reused. Targets that share a context also share
first segments.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atv_local.data import as_integer, as_path
from atv_local.errors import ModelError, PromptError, UnstableError, VectorError
from atv_local.target.model import Model
from atv_local.target.prompt import PromptFormat
from atv_local.target.target_context import OwnContext, TargetContext
from atv_local.target.target_file import target_spec
from atv_local.target.turns import ContextTurn, Turns
from atv_local.target.vocabulary import Vocabulary
from atv_local.vectors import TargetSpec, TaskVector, probe_vector

DEFAULT_CTX = 2048
MAX_THREADS = 512
_READ = 32
"""Tokens of a batch in which the logits of all are read; each takes memory for a vocabulary."""


class Target:
    """A frozen, quantised model with one context.

    Answers have it one at a time: see `turn`. Other calls may come from any thread, one after the other; hold a turn
    around calls that belong together.

    Args:
        model: the path of a GGUF, or a loaded model, whose weights are then shared.
        n_ctx: tokens of prompt and answer together; by default 2048, or what the model was trained for if that is less.
        n_threads: by default all cores that this process may use.
        n_gpu_layers: layers to offload; -1 is all. Without effect in a CPU build of llama.cpp.
        in_turn: calls the function it is given, which evaluates a batch; for several targets that must not evaluate at
            the same time.
        context: where it evaluates, instead of in a context of its own; has `n_ctx` and `n_threads` already.

    Raises:
        ModelError: not a loadable GGUF, or its architecture ignores control vectors.
        UsageError: a context larger than the model was trained for or than memory, or too many threads.
    """

    def __init__(
        self,
        model: Path | str | Model,
        *,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        in_turn: Callable[[Callable[[], None]], None] = lambda evaluate: evaluate(),
        context: TargetContext | None = None,
    ) -> None:
        if not isinstance(model, Model):
            model = Model(as_path("model", model, exists=True), n_gpu_layers=n_gpu_layers)
        self.model = model
        self._in_turn = in_turn
        self.vocabulary = Vocabulary(self.model)
        self.n_rows, self.n_embd = self.model.n_layer - 1, self.model.n_embd
        n_ctx, self.n_threads = context_sizes(model, n_ctx, n_threads)
        self._context = context or OwnContext(model, n_ctx=n_ctx, n_threads=self.n_threads)
        self._turns = Turns(f"the target {self.path.name}", self.check_open, self._context.rest)
        self.n_ctx = self._context.n_ctx
        self.n_evaluated = 0
        """Tokens evaluated so far, without those reused from the cache."""
        self.n_vector_calls = 0
        """Calls of llama_set_adapter_cvec so far."""
        self._segments: list[tuple[int, ...]] = []
        self._n_past = 0
        self._steered = False
        self._probe()

    def __repr__(self) -> str:
        shape = f"{self.model.architecture} of {self.model.n_layer} layers of width {self.n_embd}"
        return f"Target({self.name!r}, {shape}, n_ctx={self.n_ctx}{', closed' if self.closed else ''})"

    def _changing(self) -> TargetContext:
        self.check_open()
        self._turns.check_free()
        return self._context

    def turn(self) -> ContextTurn:
        """Begin to use the target alone, until the turn ends: a context manager.

        Waits for the answers of other threads. Until it ends, nothing else may change the context.

        Raises:
            UsageError: an answer begun in this thread is unfinished; or the target is closed.
        """
        return self._turns.begin()

    def check_open(self) -> None:
        """Raise UsageError after `close`, and in a process that was forked after the target was loaded."""
        self._context.check_open()

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""
        return self._context.out_of_reach

    def close(self) -> None:
        """Free the context once nothing uses it; waits for a batch that another thread evaluates.

        An unfinished answer ends with a UsageError at its next token. Calling it again does nothing.
        """
        self._context.close()

    @property
    def path(self) -> Path:
        """The GGUF."""
        return self.model.path

    @property
    def name(self) -> str:
        """The name of the target's file without the ending."""
        return self.spec.name

    @property
    def spec(self) -> TargetSpec:
        """The architecture, shape and vocabulary that a bundle must match."""
        return target_spec(self.model, self.vocabulary)

    @cached_property
    def prompts(self) -> PromptFormat:
        """The target's chat template.

        Raises:
            ModelError: it cannot be used.
        """
        return PromptFormat(self.vocabulary)

    @property
    def n_past(self) -> int:
        """Tokens in the cache."""
        return self._n_past

    def n_cached(self, segments: Sequence[Sequence[int]]) -> int:
        """How many tokens of these segments `prefill` would find in the cache."""
        return sum(map(len, self._segments[: self._n_equal([tuple(segment) for segment in segments])]))

    def prefill(self, *segments: Sequence[int], ended: threading.Event | None = None) -> None:
        """Make the cache hold exactly these tokens, unsteered; leading segments that it has already are reused.

        Args:
            segments: runs of tokens. The same prompt must always be given in the same segments.
            ended: once it is set, no further batch is evaluated, and the cache holds the segments that are complete.

        Raises:
            PromptError: more tokens than the context holds.
            UsageError: an id that is not a token of the target, or another answer that is unfinished.
        """
        wanted = [tuple(segment) for segment in segments if segment]
        for segment in wanted:
            self.vocabulary.check(segment)
        self.clear()
        self._truncate(self._n_equal(wanted))
        for segment in wanted[len(self._segments) :]:
            if not self._segments and self._context.load(segment):
                self._n_past = len(segment)
            elif not self._decode(segment, self._context.n_batch, ended=ended):
                self._truncate(len(self._segments))
                return
            elif not self._segments:  # what a template or system message begins with
                self._context.save(segment)
            self._segments.append(segment)

    def _n_equal(self, wanted: Sequence[tuple[int, ...]]) -> int:
        pairs = zip(wanted, self._segments, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def evaluate(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Evaluate tokens after those in the cache, under the vector if one is applied.

        Args:
            tokens: at least one.

        Returns:
            Logits float32 [n_vocab] after the last token: a view that the next evaluation overwrites.

        Raises:
            PromptError: more tokens than the context holds.
            UnstableError: the logits are not finite, as under a vector that is too strong.
            ModelError: llama.cpp fails.
        """
        self.vocabulary.check(tokens)
        self._decode(tokens, self._context.n_batch)
        return self._finite(self.logits())

    def begin(self, token: int) -> None:
        """Begin to evaluate one more token, for `finish`; the logits before stay until then.

        A target that shares its context evaluates it while the caller does something else, such as handing the answer
        so far to its reader. What is begun and not finished does not count.

        Raises:
            PromptError: more tokens than the context holds.
            UsageError: an id that is not a token of the target, or another answer that is unfinished.
        """
        self.vocabulary.check([token])
        self._check_room(1)
        self._changing().begin([token], self._n_past)

    def finish(self) -> NDArray[np.float32]:
        """Logits float32 [n_vocab] after the token that was begun: a view that the next evaluation overwrites.

        Raises:
            UnstableError, ModelError: as `evaluate`.
        """
        self._count(1, self._changing().finish)
        return self._finite(self.logits())

    def read(self, tokens: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """As `evaluate`, with the logits after each token in turn. These tokens are not cached for later prompts.

        Yields:
            Logits float32 [n_vocab]: a view that the next evaluation overwrites.

        Raises:
            PromptError, UnstableError, ModelError: as `evaluate`.
        """
        self.vocabulary.check(tokens)
        for start in range(0, len(tokens), _READ):
            chunk = tokens[start : start + _READ]
            self._decode(chunk, _READ, every=True)
            for row in range(len(chunk)):
                yield self._finite(self.logits(row))

    def rewind(self, n_past: int) -> None:
        """Drop the tokens after the first `n_past` from the cache, which must not end inside a prefilled prompt.

        Raises:
            ModelError: the architecture has a recurrent state, which cannot be cut.
        """
        if not self._changing().cut(n_past):
            self.reset()
            raise ModelError(
                f"the state of architecture {self.model.architecture!r} cannot be cut, so choices cannot be compared "
                "here; ask with `answer_many`"
            )
        self._n_past = n_past

    def _finite(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(logits.max()):
            self.reset()
            raise UnstableError("the target's logits are not finite under this vector; lower `strength`")
        return logits

    def logits(self, row: int = -1) -> NDArray[np.float32]:
        """Logits float32 [n_vocab] after the last evaluated token: a view that the next evaluation overwrites."""
        self.check_open()
        return self._context.logits(row)

    def state_bytes(self) -> int:
        """Bytes of what the cache holds, as llama.cpp would save it."""
        self.check_open()
        return self._context.state_bytes()

    def apply(self, vector: TaskVector) -> None:
        """Steer every token evaluated from now on, until `clear` (llama_set_adapter_cvec).

        Args:
            vector: float32 [n_layer-1, n_embd]; as it is, without strength or layers.

        Raises:
            VectorError: the vector has another shape.
        """
        self.check_vector(vector)
        self._set_vector(np.ascontiguousarray(vector.array, dtype=np.float32))

    def check_vector(self, vector: TaskVector) -> None:
        """Raise VectorError for a vector of another shape than this target takes."""
        if vector.shape != (shape := (self.n_rows, self.n_embd)):
            raise VectorError(f"a task vector for this target has shape {list(shape)}, not {list(vector.shape)}")

    def clear(self) -> None:
        """Stop steering. Does nothing if no vector is applied or the target is closed.

        A closed target is not an error, since an answer that was not read to its end may be collected after its target,
        or when the interpreter exits.
        """
        if self._steered and not self._context.out_of_reach:
            self._set_vector(None)

    def reset(self) -> None:
        """Stop steering and clear the cache with its data, since a NaN behind an attention mask is still a NaN."""
        self.clear()
        self._segments, self._n_past = [], 0
        self._changing().clear()

    def _set_vector(self, rows: NDArray[np.float32] | None) -> None:
        context = self._changing()
        self._steered = True  # also if the call below is interrupted
        self.n_vector_calls += 1
        context.steer(rows)
        self._steered = rows is not None

    def _truncate(self, n_segments: int) -> None:
        segments = self._segments[:n_segments]
        length = sum(map(len, segments))
        context = self._changing()
        self._segments = []
        if not context.cut(length):
            context.clear()  # a recurrent state cannot be cut
            segments, length = [], 0
        self._segments, self._n_past = segments, length

    def _decode(
        self, tokens: Sequence[int], n_batch: int, *, every: bool = False, ended: threading.Event | None = None
    ) -> bool:
        """Evaluate in batches, all unless `ended` is set; `every` asks for the logits of all tokens instead of each
        batch's last."""
        self._check_room(len(tokens))
        for start in range(0, len(tokens), n_batch):
            if ended is not None and ended.is_set():
                return False
            chunk = tokens[start : start + n_batch]
            self._count(len(chunk), partial(self._changing().decode, chunk, self._n_past, every=every))
        return True

    def _count(self, n_tokens: int, evaluate: Callable[[], None]) -> None:
        """Evaluate tokens that then are in the cache."""
        try:
            self._in_turn(evaluate)
        except ModelError:
            self.reset()
            raise
        self._n_past += n_tokens
        self.n_evaluated += n_tokens

    def _check_room(self, n_tokens: int) -> None:
        total = self._n_past + n_tokens
        if total > self.n_ctx:
            raise PromptError(
                f"{total} tokens do not fit the context of {self.n_ctx}; shorten the prompt or raise `n_ctx`"
            )

    def _probe(self) -> None:
        """Some architectures accept a control vector and ignore it; require the logits to change."""
        token = [self.vocabulary.eos if self.vocabulary.eos >= 0 else 0]
        base = self.evaluate(token).copy()
        self.reset()
        self.apply(probe_vector(self.n_rows, self.n_embd))
        steered = self.evaluate(token).copy()
        self.reset()
        self.n_evaluated = self.n_vector_calls = 0
        if np.array_equal(base, steered):
            architecture = self.model.architecture
            raise ModelError(f"llama.cpp does not steer architecture {architecture!r} of {self.model.path}")


def context_sizes(model: Model, n_ctx: int | None, n_threads: int | None) -> tuple[int, int]:
    """How many tokens and threads a context of a model has; see `Target`.

    Raises:
        UsageError: more tokens than the model was trained for, or too many threads.
    """
    trained = model.n_ctx
    if n_ctx is not None:
        note = f"{model.path.name} was trained for {trained} tokens"
        n_ctx = as_integer("n_ctx", n_ctx, 1, trained, note=note)
    if n_threads is not None:
        n_threads = as_integer("n_threads", n_threads, 1, MAX_THREADS)
    return n_ctx or min(DEFAULT_CTX, trained), n_threads or _cores()


def _cores() -> int:
    """Cores that this process may use; some systems only tell how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
