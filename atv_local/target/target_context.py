"""Where a target evaluates its tokens: one sequence, under one control vector at a time or under none."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from atv_local.errors import ModelError, UsageError, VectorError
from atv_local.target.model import Model, interrupts_deferred, last_error
from atv_local.target.native import NativeObject

_BATCH = 512


class TargetContext(Protocol):
    """One sequence of tokens with its KV. `OwnContext` has a llama.cpp context to itself."""

    @property
    def n_ctx(self) -> int:
        """Most tokens of the sequence."""

    @property
    def n_batch(self) -> int:
        """Most tokens of one `decode`."""

    @property
    def out_of_reach(self) -> bool:
        """Whether nothing can be changed any more: it is closed, of another process, or the interpreter exits."""

    def check_open(self) -> None:
        """Raise UsageError after `close`, and in a process that was forked since."""

    def close(self) -> None:
        """Free it once nothing uses it. Calling it again does nothing."""

    def decode(self, tokens: Sequence[int], position: int, *, every: bool) -> None:
        """Evaluate tokens from a position on, for the logits after the last one or after every one.

        Raises:
            ModelError: llama.cpp fails. The state is undefined until `clear`.
        """

    def begin(self, tokens: Sequence[int], position: int) -> None:
        """Begin to evaluate tokens as `decode` does, if that can go on while the caller does something else."""

    def finish(self) -> None:
        """Wait for what was begun, or do it now; its logits replace the others only then.

        Raises:
            ModelError: as `decode`.
        """

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits float32 [n_vocab] of the last `decode`; row -1 is the last. A view, valid until the next one."""

    def steer(self, rows: NDArray[np.float32] | None) -> None:
        """Add these rows [n_layer-1, n_embd] to the outputs of layers 1 to n_layer-1, or nothing.

        Raises:
            VectorError: llama.cpp refuses them.
        """

    def cut(self, position: int) -> bool:
        """Drop the tokens from a position on; False if that is impossible."""

    def clear(self) -> None:
        """Drop all tokens."""

    def load(self, tokens: tuple[int, ...]) -> bool:
        """Begin the empty sequence with tokens that `save` has kept; False if they are not there."""

    def save(self, tokens: tuple[int, ...]) -> None:
        """Keep what the sequence has, which are these tokens without steering, where other sequences can use it."""

    def state_bytes(self) -> int:
        """Bytes of the sequence's state (llama_state_seq_get_size)."""

    def rest(self) -> None:
        """Nothing follows for now."""


def logits_view(context: NativeObject, row: int, model: Model) -> NDArray[np.float32]:
    """Logits float32 [n_vocab] of a llama.cpp context, whose lock is held: a view that keeps the context alive.

    Raises:
        ModelError: there are none.
    """
    pointer = lib.llama_get_logits_ith(context.pointer, row)
    if not pointer:
        raise ModelError(f"{model.path} gives no logits; it is not a text generation model")
    n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model.handle)))
    buffer = (ctypes.c_float * n_vocab).from_address(ctypes.addressof(pointer.contents))
    buffer.context = context  # type: ignore[attr-defined]  # the view is valid as long as somebody holds it
    return np.ctypeslib.as_array(buffer)


class OwnContext:
    """A llama.cpp context of one sequence, steered by its control vector.

    Args:
        model: its weights are shared with other contexts.
        n_ctx: tokens of the sequence.
        n_threads: threads of llama.cpp.

    Raises:
        UsageError: llama.cpp cannot make such a context.
    """

    def __init__(self, model: Model, *, n_ctx: int, n_threads: int) -> None:
        self._model = model
        params = lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = _BATCH
        params.n_threads = params.n_threads_batch = n_threads
        self._name = f"the target {model.path.name}"
        with interrupts_deferred():
            handle = lib.llama_init_from_model(model.handle, params)
            if not handle:
                raise UsageError(f"llama.cpp cannot make a context of {n_ctx} tokens: {last_error()}")
            self._native = NativeObject(handle, lib.llama_free, self._name, model)
        self._closed = False
        self._begun: tuple[Sequence[int], int] = ((), 0)
        self.n_ctx = int(lib.llama_n_ctx(handle))
        self.n_batch = int(lib.llama_n_batch(handle))  # of a small context less than was asked for

    @contextmanager
    def _using(self) -> Iterator[Any]:
        """The llama.cpp context, which no other thread uses or frees meanwhile."""
        self.check_open()  # before the lock, which a thread of the process that forked may have had
        native = self._native
        with native.lock:
            self.check_open()
            yield native.pointer

    @property
    def out_of_reach(self) -> bool:
        """See `TargetContext`."""
        return self._closed or self._native.out_of_reach

    def check_open(self) -> None:
        """See `TargetContext`."""
        if self._closed:
            raise UsageError(f"{self._name} is closed; load it again")
        self._native.check_process()

    def close(self) -> None:
        """See `TargetContext`; waits for a batch that another thread evaluates."""
        if self.out_of_reach:
            self._closed = True
            return
        with self._native.lock:
            self._closed = True
            self._native = NativeObject(None, lambda _: None, self._name)  # views of logits still hold the other

    def decode(self, tokens: Sequence[int], position: int, *, every: bool) -> None:  # noqa: ARG002  # its own end
        """See `TargetContext`; `position` is always that after the last token (llama_batch_get_one)."""
        array = (lib.llama_token * len(tokens))(*tokens)
        batch = lib.llama_batch_get_one(array, len(tokens))
        if every:
            batch.logits = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))
        with self._using() as handle:
            code = lib.llama_decode(handle, batch)
        if code != 0:
            raise ModelError(f"llama.cpp could not evaluate {len(tokens)} tokens (code {code}): {last_error()}")

    def begin(self, tokens: Sequence[int], position: int) -> None:
        """See `TargetContext`; the logits before would be lost, so nothing is evaluated yet."""
        self._begun = tokens, position

    def finish(self) -> None:
        """See `TargetContext`."""
        self.decode(*self._begun, every=False)

    def logits(self, row: int) -> NDArray[np.float32]:
        """See `TargetContext`."""
        with self._using():
            return logits_view(self._native, row, self._model)

    def steer(self, rows: NDArray[np.float32] | None) -> None:
        """See `TargetContext` (llama_set_adapter_cvec)."""
        n_rows, n_embd = self._model.n_layer - 1, self._model.n_embd
        data = None if rows is None else rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        with self._using() as handle:
            lib.llama_synchronize(handle)  # a GPU may still be reading the vector before
            size = 0 if rows is None else rows.size
            if lib.llama_set_adapter_cvec(handle, data, size, n_embd, 1, n_rows) != 0:
                raise VectorError(f"llama.cpp refused the task vector: {last_error()}")

    def cut(self, position: int) -> bool:
        """See `TargetContext`."""
        with self._using() as handle:
            return bool(lib.llama_memory_seq_rm(lib.llama_get_memory(handle), 0, position, -1))

    def clear(self) -> None:
        """See `TargetContext`; the data too, since a NaN behind an attention mask is still a NaN."""
        with self._using() as handle:
            lib.llama_memory_clear(lib.llama_get_memory(handle), True)

    def load(self, tokens: tuple[int, ...]) -> bool:  # noqa: ARG002  # nothing is kept
        """See `TargetContext`; there are no other sequences."""
        return False

    def save(self, tokens: tuple[int, ...]) -> None:
        """See `TargetContext`; there are no other sequences."""

    def state_bytes(self) -> int:
        """See `TargetContext`."""
        with self._using() as handle:
            return int(lib.llama_state_seq_get_size(handle, 0))

    def rest(self) -> None:
        """See `TargetContext`."""
