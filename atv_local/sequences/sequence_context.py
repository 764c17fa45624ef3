"""A llama.cpp context of several sequences, every token under a task vector of its own or under none.

A control vector of llama.cpp steers all tokens of a context; see `TokenVectors` for how it has a row for each here.
What is evaluated when is decided by others: `Scheduler` for a batch, `SharedContext` for requests that come and go.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from atv_local.errors import ModelError, UnstableError, UsageError
from atv_local.sequences.grouping import TokenBatch, group_apart
from atv_local.sequences.token_context import Reader, Token
from atv_local.sequences.token_vectors import TokenVectors
from atv_local.target import Model, NativeObject, Vocabulary, interrupts_deferred, last_error, logits_view
from atv_local.vectors import TaskVector, probe_vector

MAX_BATCH = 63
"""Tokens of one call. With 64 or more of one sequence, and with a single one after more than 256 others on several
threads, llama.cpp's attention on CPUs sums in another order (ggml-cpu: ggml_compute_forward_flash_attn_ext_f16). In
between, a token's result does not depend on the other tokens.
"""

MAX_PIECE = 128
"""Tokens of one call that belong to one sequence. They come in the same pieces whatever else is evaluated, so attention
may sum in the order for many, which is faster."""
CELLS = 256
"""llama.cpp rounds the cells of a sequence up to a multiple of this."""
_PROBE_TOKENS = 3
_MIN_RATIO = 10  # of how far a steered sequence moves to how far an equal one does, which on CPUs is nothing


class SequenceContext:
    """A context of a loaded model for `n_sequences` sequences.

    Args:
        model: its weights are shared with all other contexts.
        n_sequences: at most 255; they are numbered from 0.
        n_ctx: tokens of all sequences together, where one that several share counts once; or of each, see `apart`.
        n_threads: threads of llama.cpp.
        apart: give each sequence cells of its own. Nothing can be shared then, and what a sequence's tokens result in
            does not depend on when others come and go; llama.cpp sums over cells in the order in which they were taken.

    Raises:
        UsageError: llama.cpp cannot make such a context.
        ModelError: the architecture cannot be steered token by token, or has a recurrent state and is to be kept apart.
    """

    def __init__(self, model: Model, *, n_sequences: int, n_ctx: int, n_threads: int, apart: bool = False) -> None:
        self._model, self._apart = model, apart
        self.n_sequences, self.max_batch = n_sequences, MAX_PIECE if apart else MAX_BATCH
        recurrent = lib.llama_model_is_recurrent(model.handle) or lib.llama_model_is_hybrid(model.handle)
        if recurrent and apart:
            raise ModelError(f"the state of architecture {model.architecture!r} in {model.path} cannot be cut")
        self._together = not recurrent  # there llama.cpp orders the tokens of several sequences itself
        params = lib.llama_context_default_params()
        params.n_seq_max = max(2, n_sequences) if apart else n_sequences + 1  # two for the probe, or a spare one
        cells = max(n_ctx, self.max_batch) + 1  # with a spare one; fewer would limit batches
        params.n_ctx = cells * params.n_seq_max if apart else cells
        params.kv_unified = not apart
        params.n_batch = params.n_ubatch = self.max_batch
        params.n_threads = params.n_threads_batch = n_threads
        params.n_outputs_max = max(self.max_batch, n_sequences + 1)
        self._vectors = TokenVectors(model.n_layer, model.n_embd, self.max_batch)
        params.cb_eval, params.cb_eval_user_data = self._vectors.callback, self._vectors.user_data
        with interrupts_deferred():
            handle = lib.llama_init_from_model(model.handle, params)
            if not handle:
                raise UsageError(f"llama.cpp cannot make a context of {params.n_ctx} tokens: {last_error()}")
            self._native = NativeObject(handle, lib.llama_free, model.path.name, (model, self._vectors))
        self._closed = False
        self.n_ctx = n_ctx if apart else int(lib.llama_n_ctx(handle)) - 1
        self.n_evaluated = 0
        """Tokens evaluated so far."""
        self._vocabulary = Vocabulary(model)
        self._batch = lib.llama_batch_init(self.max_batch, 0, 1)
        self._free_batch = weakref.finalize(self, lib.llama_batch_free, self._batch)
        self._pads = True
        """Whether a single token is evaluated with a spare one, since alone it would be rounded in another way."""
        self._probe()
        self._pads = not apart or not self._rounds_singles_alike()
        if apart and not self._forgets():
            raise ModelError(f"logits of {model.path} that are not finite would spoil later answers")

    @contextmanager
    def _using(self) -> Iterator[Any]:
        """The llama.cpp context, which no other thread uses or frees meanwhile."""
        self.check_open()  # before the lock, which a thread of the process that forked may have had
        native = self._native
        with native.lock:
            self.check_open()
            yield native.pointer

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def check_open(self) -> None:
        """Raise UsageError after `close`, and in a process that was forked since."""
        if self._closed:
            raise UsageError("the batch is closed; make another one of its engine")
        self._native.check_process()

    def close(self) -> None:
        """Free the context once nothing uses it. Calling it again does nothing."""
        if self._closed or self._native.out_of_reach:
            self._closed = True
            return
        with self._native.lock:
            self._closed = True
            self._native = NativeObject(None, lambda _: None, self._native.name)  # views of logits still hold the other

    def decode(self, tokens: Sequence[Token], read: Reader) -> None:
        """Evaluate tokens, those of one sequence in order; `read` is called for each that wants its logits.

        Raises:
            ModelError: llama.cpp fails. All sequences are empty then.
        """
        for batch in self._batches(tokens):
            self._decode([token for token, _ in batch])
            for row, (token, index) in enumerate(batch):
                if token.output and index is not None:
                    read(index, row)
            for token, index in batch:
                if index is None:
                    self.cut(token.sequence, token.position)

    def _batches(self, tokens: Sequence[Token]) -> list[TokenBatch]:
        """What is evaluated together."""
        if self._apart:
            counts = Counter(token.sequence for token in tokens)
            single = {token.sequence: token.position for token in tokens if counts[token.sequence] == 1}
            with self._using() as handle:
                memory = lib.llama_get_memory(handle)

                def next_position(sequence: int) -> int | None:
                    position = single.get(sequence, lib.llama_memory_seq_pos_max(memory, sequence)) + 1
                    return int(position) if position < self.n_ctx else None

                sizes = {"n_sequences": self.n_sequences, "max_batch": MAX_BATCH}
                return group_apart(tokens, next_position, pads=self._pads, **sizes)
        groups: dict[int, TokenBatch] = {}
        for index, token in enumerate(tokens):
            groups.setdefault(0 if self._together else token.sequence, []).append((token, index))
        spare = Token(0, 0, self.n_sequences, output=True)
        return [[*batch, (spare, None)] if len(batch) == 1 else batch for batch in groups.values()]

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits float32 [n_vocab] of a token just evaluated: a view, valid until the next evaluation.

        Raises:
            ModelError: they are not finite, as under a vector that is too strong. All sequences are empty then.
        """
        logits = self.view(row)
        if not np.isfinite(logits.max()):
            self.reset()
            raise UnstableError("the target's logits are not finite under this vector; lower `strength`")
        return logits

    def view(self, row: int) -> NDArray[np.float32]:
        """As `logits`, finite or not."""
        with self._using():
            return logits_view(self._native, row, self._model)

    def share(self, source: int, destination: int) -> None:
        """Let an empty sequence begin with all tokens of another one, without evaluating them again."""
        with self._using() as handle:
            lib.llama_memory_seq_cp(lib.llama_get_memory(handle), source, destination, -1, -1)

    def drop(self, sequence: int) -> None:
        """Empty a sequence; tokens that others share stay with them."""
        self.cut(sequence, 0)

    def cut(self, sequence: int, position: int) -> None:
        """Drop the tokens of a sequence from a position on."""
        if not self.out_of_reach:
            with self._using() as handle:
                lib.llama_memory_seq_rm(lib.llama_get_memory(handle), sequence, position, -1)

    def state(self, sequence: int) -> bytes:
        """The cells of a sequence (llama_state_seq_get_data), for `set_state` of the same or another one.

        Raises:
            ModelError: llama.cpp fails.
        """
        with self._using() as handle:
            size = lib.llama_state_seq_get_size(handle, sequence)
            buffer = (ctypes.c_uint8 * size)()
            if lib.llama_state_seq_get_data(handle, buffer, size, sequence) != size:
                raise ModelError(f"llama.cpp could not copy {size} bytes of a sequence: {last_error()}")
        return bytes(buffer)

    def set_state(self, sequence: int, state: bytes) -> None:
        """Fill an empty sequence (llama_state_seq_set_data).

        Raises:
            ModelError: llama.cpp fails.
        """
        with self._using() as handle:
            buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
            if lib.llama_state_seq_set_data(handle, buffer, len(state), sequence) != len(state):
                raise ModelError(f"llama.cpp could not copy {len(state)} bytes to a sequence: {last_error()}")

    def reset(self) -> None:
        """Empty all sequences and clear their data, since a NaN behind an attention mask is still a NaN."""
        if not self.out_of_reach:
            with self._using() as handle:
                lib.llama_memory_clear(lib.llama_get_memory(handle), True)

    @property
    def out_of_reach(self) -> bool:
        """Whether there is nothing to empty: an unfinished call may be collected after `close` or at exit."""
        return self._closed or self._native.out_of_reach

    def _decode(self, tokens: Sequence[Token]) -> None:
        self._vocabulary.check([token.token for token in tokens])
        with interrupts_deferred(), self._using() as handle, self._vectors.applied(handle, tokens):
            batch = self._batch  # freed at exit, so not to be written without the lock
            batch.n_tokens = len(tokens)
            for row, token in enumerate(tokens):
                batch.token[row], batch.pos[row], batch.logits[row] = token.token, token.position, token.output
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, token.sequence
            code = lib.llama_decode(handle, batch)
        if code != 0:
            self.reset()
            raise ModelError(f"llama.cpp could not evaluate {len(tokens)} tokens (code {code}): {last_error()}")
        self.n_evaluated += len(tokens)

    def _probe(self) -> None:
        """Of two equal sequences the steered one must change, and the other must not."""
        places = range(_PROBE_TOKENS)
        try:
            with self._using() as handle, self._vectors.finding(handle, _PROBE_TOKENS):
                self._decode([Token(0, place, 0, output=place == places[-1]) for place in places])
        except ValueError as error:
            raise ModelError(f"{self._not_steered} ({error})") from error
        self.reset()
        probe = probe_vector(self._model.n_layer - 1, self._model.n_embd)
        logits: list[NDArray[np.float32]] = []
        for steered in (None, probe):
            tokens = [
                Token(0, place, sequence, steered if sequence else None, output=place == places[-1])
                for place in places
                for sequence in range(2)
            ]
            self.decode(tokens, lambda _, row: logits.append(self.logits(row).copy()))
            self.reset()
        self.n_evaluated = 0
        *unsteered, moved = [float(np.abs(other - logits[0]).max()) for other in logits[1:]]
        if not moved > _MIN_RATIO * max(unsteered):
            raise ModelError(self._not_steered)

    def _rounds_singles_alike(self) -> bool:
        """Whether llama.cpp's products with one row are those with two; with weights in F16, for example, they are not.

        Where they are, the spare token is left out: it takes time.
        """
        logits: list[NDArray[np.float32]] = []
        self._pads = False
        for sequences in ((0,), (0, 1)):
            for sequence in sequences:
                self.decode([Token(0, place, sequence) for place in range(2)], lambda _, _row: None)
            tokens = [Token(0, 2, sequence, output=True) for sequence in sequences]
            self.decode(tokens, lambda _, row: logits.append(self.logits(row).copy()))
            self.reset()
        self.n_evaluated = 0
        return np.array_equal(logits[0], logits[1])

    def _forgets(self) -> bool:
        """Whether tokens that were cut do not count, even if they are not finite: a NaN behind an attention mask is
        still a NaN, unless attention leaves such cells out, as llama.cpp's flash attention on CPUs does."""
        shape = self._model.n_layer - 1, self._model.n_embd
        spoiled = TaskVector(np.full(shape, 3e38, dtype=np.float32))
        found: list[NDArray[np.float32]] = []
        for vector in (None, spoiled, None):
            places = range(_PROBE_TOKENS if vector is None else 2 * _PROBE_TOKENS)
            tokens = [Token(0, place, 0, vector, output=place == places[-1]) for place in places]
            self.decode(tokens, lambda _, row: found.append(self.view(row).copy()))
            self.cut(0, 0)
        self.reset()
        self.n_evaluated = 0
        return np.array_equal(found[0], found[2])

    @property
    def _not_steered(self) -> str:
        return (
            f"the layers of architecture {self._model.architecture!r} in {self._model.path} cannot be steered "
            "token by token, so queries cannot be evaluated together"
        )
