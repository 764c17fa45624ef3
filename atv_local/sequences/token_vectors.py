"""Gives every token of a batch its own control vector, inside llama.cpp's graph.

For layers 1 to n_layer-1 llama.cpp adds one row, that of the control vector, to the outputs of all tokens
(llama_adapter_cvec::apply_to). ggml also adds a matrix that has a row for each token. So the tensors of the control
vector are given memory for many rows, and before each batch the rows of its tokens. llama.cpp has no function that
returns these tensors: they are found once, by the eval callback, as the second operand of each layer's output.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp as lib
import numpy as np
from llama_cpp.llama_cpp import ggml_backend_sched_eval_callback
from numpy.typing import NDArray

from atv_local.sequences.ggml import Tensor, TensorMemory, ggml, replace_in_block
from atv_local.sequences.token_context import Token
from atv_local.vectors import TaskVector

_LAYER_OUTPUT = b"l_out-"


class TokenVectors:
    """The control vectors of one context, a row of every layer for each token.

    Args:
        n_layer: of the model; layers 1 to n_layer-1 are steered.
        n_embd: width of the hidden state.
        max_batch: most tokens of a batch.
    """

    def __init__(self, n_layer: int, n_embd: int, max_batch: int) -> None:
        self.callback = ggml_backend_sched_eval_callback(self._called)
        """For `cb_eval` of the context, beside `user_data`."""
        self._mark = ctypes.c_uint64()
        self.user_data = ctypes.addressof(self._mark)
        """An address that nothing else has."""
        self.n_calls = 0
        """How often llama.cpp called back."""
        self._n_rows, self._n_embd, self._max_batch = n_layer - 1, n_embd, max_batch
        self._found: dict[int, tuple[Tensor, int]] | None = None
        """While they are looked for: of each layer the tensor, and how many rows the layer's output has."""
        self._failure = ""
        self._tensors: list[Tensor] = []
        self._of_outputs: list[bool] = []
        """Of each tensor whether its layer evaluates only the tokens whose logits are wanted, as the last one does."""

    @contextmanager
    def finding(self, handle: Any, n_tokens: int) -> Iterator[None]:
        """Find the tensors while a batch of `n_tokens` tokens is evaluated, of which one wants its logits.

        Raises:
            ValueError: they are not found.
        """
        zeros = np.zeros(self._n_rows * self._n_embd, dtype=np.float32)
        data = zeros.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        if lib.llama_set_adapter_cvec(handle, data, zeros.size, self._n_embd, 1, self._n_rows) != 0:
            raise ValueError("llama.cpp refuses control vectors")
        self._found = {}
        try:
            yield
            if self._failure:
                raise ValueError(self._failure)
            found = [self._found.get(layer) for layer in range(1, self._n_rows + 1)]
        finally:
            self._found = None
        for layer, place in enumerate(found, start=1):
            if place is None or place[1] not in (1, n_tokens):
                raise ValueError(f"the output of layer {layer} has no row for each token")
            self._tensors.append(place[0])
            self._of_outputs.append(place[1] == 1)
        self._give_memory()
        self._end_calls(handle)

    def _end_calls(self, handle: Any) -> None:
        """Let llama.cpp call back no more: it would for every tensor of every batch, and wait for the GIL each time.

        It takes the callback from the context's parameters whenever it builds a graph, and has no function to change
        it. Where it cannot be replaced there, calls go on and do nothing.
        """
        pointers = ctypes.cast(self.callback, ctypes.c_void_p).value, self.user_data
        old = b"".join(bytes(ctypes.c_void_p(pointer)) for pointer in pointers)
        replace_in_block(ctypes.cast(handle, ctypes.c_void_p).value or 0, old, bytes(len(old)))

    def _give_memory(self) -> None:
        groups: defaultdict[int, list[Tensor]] = defaultdict(list)
        for tensor in self._tensors:
            groups[ggml.ggml_backend_buffer_get_type(tensor.buffer)].append(tensor)
        for tensors in groups.values():
            memory = TensorMemory(tensors[0], len(tensors), self._n_embd, self._max_batch)
            weakref.finalize(self, memory.free).atexit = False  # a daemon thread may use it until the process ends
            for tensor, made in zip(tensors, memory.tensors, strict=True):
                tensor.buffer, tensor.data = made.buffer, made.data
        self._write(np.zeros((self._n_rows, 1, self._n_embd), dtype=np.float32), None)

    @contextmanager
    def applied(self, handle: Any, tokens: Sequence[Token]) -> Iterator[None]:
        """Steer these tokens, each by its vector or not at all, while they are evaluated."""
        places: dict[int, int] = {}  # by identity: comparing arrays would cost more than it saves
        vectors: list[TaskVector] = []
        steered: list[tuple[int, int]] = []
        for index, token in enumerate(tokens):
            if token.vector is not None:
                place = places.setdefault(id(token.vector), len(vectors))
                if place == len(vectors):
                    vectors.append(token.vector)
                steered.append((index, place))
        if not vectors:
            yield
            return
        rows = np.zeros((self._n_rows, len(tokens), self._n_embd), dtype=np.float32)
        for index, place in steered:
            rows[:, index] = vectors[place].array
        wanted = [index for index, token in enumerate(tokens) if token.output]
        self._write(rows, rows[:, wanted] if len(wanted) < len(tokens) else rows)
        try:
            yield
        finally:  # one row of zeros for all tokens, which suits whatever llama.cpp builds next
            lib.llama_synchronize(handle)  # a GPU may still be reading the rows
            zeros = np.zeros((self._n_rows, 1, self._n_embd), dtype=np.float32)
            self._write(zeros, None)

    def _write(self, rows: NDArray[np.float32], wanted: NDArray[np.float32] | None) -> None:
        """Set the rows [n_layer-1, tokens, n_embd] of all tokens, and those of the tokens whose logits are wanted."""
        for layer, (tensor, of_outputs) in enumerate(zip(self._tensors, self._of_outputs, strict=True)):
            values = rows[layer] if wanted is None or not of_outputs else np.ascontiguousarray(wanted[layer])
            if not len(values):
                continue  # no token is evaluated in this layer
            tensor.n_rows = len(values)
            ggml.ggml_backend_tensor_set(tensor.address, values.ctypes.data, 0, values.nbytes)

    def _called(self, address: int, _ask: bool, _user_data: int) -> bool:
        """Called with each tensor before it is computed, see ggml_backend_sched_eval_callback."""
        self.n_calls += 1
        if self._found is None:
            return False
        name: bytes = ggml.ggml_get_name(address)
        if name.startswith(_LAYER_OUTPUT):
            try:
                layer = int(name[len(_LAYER_OUTPUT) :])
                if 1 <= layer <= self._n_rows:
                    self._found[layer] = self._operand(address)
            except Exception as error:  # ctypes would only print it
                self._failure = f"layer output {name!r} cannot be steered: {error}"
        return False

    def _operand(self, address: int) -> tuple[Tensor, int]:
        output = Tensor.at(address)
        if ggml.ggml_op_desc(address) != b"ADD" or output.ne[2] != 1:
            raise ValueError("it is not a sum with a control vector")
        vector = Tensor.at(output.src[1])
        if list(vector.ne) != [self._n_embd, 1, 1, 1]:
            raise ValueError("its second operand is not a control vector")
        return vector, output.n_rows
