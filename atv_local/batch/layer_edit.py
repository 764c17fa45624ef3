"""llama.cpp's eval callback, which adds the rows of task vectors to the layer outputs of single tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
from llama_cpp._ctypes_extensions import load_shared_library
from llama_cpp.llama_cpp import ggml_backend_sched_eval_callback
from numpy.typing import NDArray

from atv_local.batch.token_context import Token
from atv_local.vectors import TaskVector

_LAYER_OUTPUT = b"l_out-"

_ggml: Any = load_shared_library("ggml-base", Path(lib.__file__).parent / "lib")
_ggml.ggml_get_name.argtypes, _ggml.ggml_get_name.restype = [ctypes.c_void_p], ctypes.c_char_p
_ggml.ggml_nbytes.argtypes, _ggml.ggml_nbytes.restype = [ctypes.c_void_p], ctypes.c_size_t
for _move in (_ggml.ggml_backend_tensor_get, _ggml.ggml_backend_tensor_set):
    _move.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]


class LayerEdit:
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
        """The same among the tokens whose logits are wanted."""
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
