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
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
from llama_cpp._ctypes_extensions import load_shared_library
from llama_cpp.llama_cpp import ggml_backend_sched_eval_callback
from numpy.typing import NDArray

from atv_local.batch.token_context import Reader, Token
from atv_local.errors import ModelError, UnstableError, UsageError
from atv_local.target import Model, NativeObject, Sampler, Vocabulary, interrupts_deferred, last_error
from atv_local.vectors import TaskVector

MAX_BATCH = 63
"""Tokens of one call. With 64 or more, and with a single one, llama.cpp's attention on CPUs sums in another order
(ggml-cpu: ggml_compute_forward_flash_attn_ext_f16). In between, a token's result does not depend on the other tokens.
"""

_LAYER_OUTPUT = b"l_out-"
_PROBE_TOKENS = 3

_ggml: Any = load_shared_library("ggml-base", Path(lib.__file__).parent / "lib")
_ggml.ggml_get_name.argtypes, _ggml.ggml_get_name.restype = [ctypes.c_void_p], ctypes.c_char_p
_ggml.ggml_nbytes.argtypes, _ggml.ggml_nbytes.restype = [ctypes.c_void_p], ctypes.c_size_t
for _move in (_ggml.ggml_backend_tensor_get, _ggml.ggml_backend_tensor_set):
    _move.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]


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
        self._edit = _Edit(model.n_layer, model.n_embd)
        params.cb_eval = self._edit.callback
        with interrupts_deferred():
            self._handle = lib.llama_init_from_model(model.handle, params)
            if not self._handle:
                raise UsageError(f"llama.cpp cannot make a context of {n_ctx} tokens: {last_error()}")
            self._native = NativeObject(self._handle, lib.llama_free, model.path.name, (model, self._edit))
        self.n_ctx = int(lib.llama_n_ctx(self._handle)) - 1
        self.n_evaluated = 0
        """Tokens evaluated so far."""
        self._vocabulary = Vocabulary(model)
        self._memory = lib.llama_get_memory(self._handle)
        self._batch = lib.llama_batch_init(MAX_BATCH, 0, 1)
        self._free_batch = weakref.finalize(self, lib.llama_batch_free, self._batch)
        recurrent = lib.llama_model_is_recurrent(model.handle) or lib.llama_model_is_hybrid(model.handle)
        self._together = not recurrent  # there llama.cpp orders the tokens of several sequences itself
        self._probe()

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
        pointer = lib.llama_get_logits_ith(self._handle, row)
        if not pointer:
            raise ModelError(f"{self._model.path} gives no logits; it is not a text generation model")
        logits = np.ctypeslib.as_array(pointer, shape=(self._vocabulary.n_tokens,))
        if not np.isfinite(logits.max()):
            self.reset()
            raise UnstableError("the target's logits are not finite under this vector; lower `strength`")
        return logits

    def draw(self, row: int, sampler: Sampler) -> int:
        """The next token, drawn from the logits of a token just evaluated."""
        return sampler.pick(self._handle, row)

    def share(self, source: int, destination: int) -> None:
        """Let an empty sequence begin with all tokens of another one, without evaluating them again."""
        lib.llama_memory_seq_cp(self._memory, source, destination, -1, -1)

    def drop(self, sequence: int) -> None:
        """Empty a sequence; tokens that others share stay with them."""
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def reset(self) -> None:
        """Empty all sequences and clear their data, since a NaN behind an attention mask is still a NaN."""
        lib.llama_memory_clear(self._memory, True)

    def _decode(self, tokens: Sequence[Token]) -> None:
        self._native.check_process()
        self._vocabulary.check([token.token for token in tokens])
        batch = self._batch
        batch.n_tokens = len(tokens)
        for row, token in enumerate(tokens):
            batch.token[row], batch.pos[row], batch.logits[row] = token.token, token.position, token.output
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, token.sequence
        with interrupts_deferred(), self._native.lock, self._edit.applied(tokens):
            code = lib.llama_decode(self._handle, batch)
        if self._edit.failure or code != 0:
            self.reset()
            reason = self._edit.failure or f"llama.cpp could not evaluate {len(tokens)} tokens (code {code})"
            raise ModelError(f"{reason}: {last_error()}".rstrip(": "))
        self.n_evaluated += len(tokens)

    def _probe(self) -> None:
        """Of two equal sequences the steered one must change, and the other must not."""
        ones = TaskVector(np.ones((self._model.n_layer - 1, self._model.n_embd)))
        logits: list[NDArray[np.float32]] = []
        for steered in (None, ones):
            tokens = [
                Token(0, place, sequence, steered if sequence else None, output=place == _PROBE_TOKENS - 1)
                for place in range(_PROBE_TOKENS)
                for sequence in range(2)
            ]
            self.decode(tokens, lambda _, row: logits.append(self.logits(row).copy()))
            self.reset()
        self.n_evaluated = 0
        equal = [np.allclose(logits[0], other, rtol=1e-2, atol=1e-2) for other in logits[1:]]
        if equal != [True, True, False]:
            raise ModelError(
                f"the layers of architecture {self._model.architecture!r} in {self._model.path} cannot be steered "
                "token by token, so queries cannot be evaluated together"
            )


class _Edit:
    """The eval callback of one context, and the rows that it adds to the batch being evaluated."""

    def __init__(self, n_layer: int, n_embd: int) -> None:
        self.callback = ggml_backend_sched_eval_callback(self._called)
        self.failure = ""
        self._n_rows, self._n_embd = n_layer - 1, n_embd
        self._vectors: NDArray[np.float32] | None = None
        """[vectors, n_layer-1, n_embd]"""
        self._all: tuple[NDArray[np.intp], NDArray[np.intp]]
        """Rows of the steered tokens among all tokens of the batch, and the vector of each."""
        self._outputs: tuple[NDArray[np.intp], NDArray[np.intp]]
        """Rows of the steered tokens among those whose logits are wanted, and the vector of each."""
        self._n_tokens = self._n_outputs = 0

    @contextmanager
    def applied(self, tokens: Sequence[Token]) -> Iterator[None]:
        """Add the vectors of these tokens while they are evaluated."""
        places: dict[int, int] = {}  # by identity: comparing arrays would cost more than it saves
        vectors: list[TaskVector] = []
        rows: list[tuple[int, int, int]] = []
        n_outputs = 0
        for index, token in enumerate(tokens):
            if token.vector is not None:
                place = places.setdefault(id(token.vector), len(vectors))
                if place == len(vectors):
                    vectors.append(token.vector)
                rows.append((index, n_outputs if token.output else -1, place))
            n_outputs += token.output
        self._n_tokens, self._n_outputs = len(tokens), n_outputs
        self._vectors = np.stack([vector.array for vector in vectors]) if vectors else None
        steered = np.array(rows, dtype=np.intp).reshape(-1, 3)
        self._all = steered[:, 0], steered[:, 2]
        wanted = steered[steered[:, 1] >= 0]
        self._outputs = wanted[:, 1], wanted[:, 2]
        self.failure = ""
        try:
            yield
        finally:
            self._vectors = None

    def _called(self, tensor: int, ask: bool, _user_data: int) -> bool:
        """Called for each tensor, first to ask whether it is wanted, then with its values.

        See ggml_backend_sched_eval_callback.
        """
        if self._vectors is None:
            return False
        name: bytes = _ggml.ggml_get_name(tensor)
        if not name.startswith(_LAYER_OUTPUT):
            return False
        try:
            layer = int(name[len(_LAYER_OUTPUT) :])
            if ask:
                return 1 <= layer <= self._n_rows
            self._add(tensor, layer)
        except Exception as error:  # ctypes would only print it
            self.failure = f"layer output {name!r} cannot be steered: {error}"
            return ask
        return True

    def _add(self, tensor: int, layer: int) -> None:
        assert self._vectors is not None
        size = _ggml.ggml_nbytes(tensor)
        values = np.empty((size // (4 * self._n_embd), self._n_embd), dtype=np.float32)
        if values.nbytes != size or len(values) not in (self._n_tokens, self._n_outputs):
            raise ValueError(f"{size} bytes for {self._n_tokens} tokens")
        rows, places = self._all if len(values) == self._n_tokens else self._outputs
        if len(rows):
            _ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, size)
            with np.errstate(over="ignore"):  # the logits are checked
                values[rows] += self._vectors[places, layer - 1]
            _ggml.ggml_backend_tensor_set(tensor, values.ctypes.data, 0, size)
