"""A llama.cpp context of several sequences, every token under a task vector of its own or under none.

A control vector steers all tokens of a context. Here llama.cpp's eval callback adds the rows instead: it stops after
each layer's output, `l_out-N`, and the rows of steered tokens are changed in place. The scheduler decides the order in
which sequences are evaluated.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from atv_local.batch.layer_edit import LayerEdit
from atv_local.batch.token_context import Reader, Token
from atv_local.errors import ModelError, UnstableError, UsageError
from atv_local.target import Model, NativeObject, Sampler, Vocabulary, interrupts_deferred, last_error
from atv_local.vectors import probe_vector

MAX_BATCH = 63
"""Tokens of one call. With 64 or more, and with a single one, llama.cpp's attention on CPUs sums in another order
(ggml-cpu: ggml_compute_forward_flash_attn_ext_f16). In between, a token's result does not depend on the other tokens.
"""

_PROBE_TOKENS = 3
_MIN_RATIO = 10  # of how far a steered sequence moves to how far an equal one does, which on CPUs is nothing


class SequenceContext:
    """A context of a loaded model for `n_sequences` sequences that share `n_ctx` cells of KV.

    Args:
        model: its weights are shared with all other contexts.
        n_sequences: at most 255; they are numbered from 0.
        n_ctx: tokens of all sequences together; one that several sequences share counts once.
        n_threads: threads of llama.cpp.

    Raises:
        UsageError: llama.cpp cannot make such a context.
        ModelError: the architecture does not let its layers' outputs be changed.
    """

    def __init__(self, model: Model, *, n_sequences: int, n_ctx: int, n_threads: int) -> None:
        self._model = model
        self.n_sequences, self.max_batch = n_sequences, MAX_BATCH
        params = lib.llama_context_default_params()
        # a spare cell and sequence, see `decode`; llama.cpp limits batches to the size of the context
        params.n_ctx, params.n_seq_max, params.kv_unified = max(n_ctx, MAX_BATCH) + 1, n_sequences + 1, True
        params.n_batch = params.n_ubatch = MAX_BATCH
        params.n_threads = params.n_threads_batch = n_threads
        params.n_outputs_max = max(MAX_BATCH, n_sequences + 1)
        self._edit = LayerEdit(model.n_layer, model.n_embd)
        params.cb_eval = self._edit.callback
        with interrupts_deferred():
            handle = lib.llama_init_from_model(model.handle, params)
            if not handle:
                raise UsageError(f"llama.cpp cannot make a context of {n_ctx} tokens: {last_error()}")
            self._native = NativeObject(handle, lib.llama_free, model.path.name, (model, self._edit))
        self._closed = False
        self.n_ctx = int(lib.llama_n_ctx(handle)) - 1
        self.n_evaluated = 0
        """Tokens evaluated so far."""
        self._vocabulary = Vocabulary(model)
        self._batch = lib.llama_batch_init(MAX_BATCH, 0, 1)
        self._free_batch = weakref.finalize(self, lib.llama_batch_free, self._batch)
        recurrent = lib.llama_model_is_recurrent(model.handle) or lib.llama_model_is_hybrid(model.handle)
        self._together = not recurrent  # there llama.cpp orders the tokens of several sequences itself
        self._probe()

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

        A single token is evaluated together with one of the spare sequence; see `MAX_BATCH`.

        Raises:
            ModelError: llama.cpp fails. All sequences are empty then.
        """
        groups: dict[int, list[int]] = {}
        for index, token in enumerate(tokens):
            groups.setdefault(0 if self._together else token.sequence, []).append(index)
        for group in groups.values():
            spare = [Token(0, 0, self.n_sequences)] if len(group) == 1 else []
            self._decode([*(tokens[index] for index in group), *spare])
            for row, index in enumerate(group):
                if tokens[index].output:
                    read(index, row)
            if spare:
                self.drop(self.n_sequences)  # its cell, the last one taken, is the next to be taken

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits float32 [n_vocab] of a token just evaluated: a view, valid until the next evaluation.

        Raises:
            ModelError: they are not finite, as under a vector that is too strong. All sequences are empty then.
        """
        with self._using() as handle:
            pointer = lib.llama_get_logits_ith(handle, row)
            if not pointer:
                raise ModelError(f"{self._model.path} gives no logits; it is not a text generation model")
            buffer = (ctypes.c_float * self._vocabulary.n_tokens).from_address(ctypes.addressof(pointer.contents))
            buffer.context = self._native  # type: ignore[attr-defined]  # the view is valid as long as somebody holds it
        logits = np.ctypeslib.as_array(buffer)
        if not np.isfinite(logits.max()):
            self.reset()
            raise UnstableError("the target's logits are not finite under this vector; lower `strength`")
        return logits

    def draw(self, row: int, sampler: Sampler) -> int:
        """The next token, drawn from the logits of a token just evaluated."""
        with self._using() as handle:
            return sampler.pick(handle, row)

    def share(self, source: int, destination: int) -> None:
        """Let an empty sequence begin with all tokens of another one, without evaluating them again."""
        with self._using() as handle:
            lib.llama_memory_seq_cp(lib.llama_get_memory(handle), source, destination, -1, -1)

    def drop(self, sequence: int) -> None:
        """Empty a sequence; tokens that others share stay with them."""
        if not self._out_of_reach:
            with self._using() as handle:
                lib.llama_memory_seq_rm(lib.llama_get_memory(handle), sequence, -1, -1)

    def reset(self) -> None:
        """Empty all sequences and clear their data, since a NaN behind an attention mask is still a NaN."""
        if not self._out_of_reach:
            with self._using() as handle:
                lib.llama_memory_clear(lib.llama_get_memory(handle), True)

    @property
    def _out_of_reach(self) -> bool:
        """Whether there is nothing to empty: an unfinished call may be collected after `close` or at exit."""
        return self._closed or self._native.out_of_reach

    def _decode(self, tokens: Sequence[Token]) -> None:
        self._vocabulary.check([token.token for token in tokens])
        with interrupts_deferred(), self._using() as handle, self._edit.applied(tokens):
            batch = self._batch  # freed at exit, so not to be written without the lock
            batch.n_tokens = len(tokens)
            for row, token in enumerate(tokens):
                batch.token[row], batch.pos[row], batch.logits[row] = token.token, token.position, token.output
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, token.sequence
            code = lib.llama_decode(handle, batch)
        if self._edit.failure or code != 0:
            self.reset()
            reason = self._edit.failure or f"llama.cpp could not evaluate {len(tokens)} tokens (code {code})"
            raise ModelError(f"{reason}: {last_error()}".rstrip(": "))
        self.n_evaluated += len(tokens)

    def _probe(self) -> None:
        """Of two equal sequences the steered one must change, and the other must not."""
        probe = probe_vector(self._model.n_layer - 1, self._model.n_embd)
        logits: list[NDArray[np.float32]] = []
        for steered in (None, probe):
            tokens = [
                Token(0, place, sequence, steered if sequence else None, output=place == _PROBE_TOKENS - 1)
                for place in range(_PROBE_TOKENS)
                for sequence in range(2)
            ]
            self.decode(tokens, lambda _, row: logits.append(self.logits(row).copy()))
            self.reset()
        self.n_evaluated = 0
        *unsteered, moved = [float(np.abs(other - logits[0]).max()) for other in logits[1:]]
        if not moved > _MIN_RATIO * max(unsteered):
            raise ModelError(
                f"the layers of architecture {self._model.architecture!r} in {self._model.path} cannot be steered "
                "token by token, so queries cannot be evaluated together"
            )
