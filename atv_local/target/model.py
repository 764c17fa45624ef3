"""Loading a GGUF with llama.cpp, without its log output and with errors instead of crashes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp as lib

from atv_local.data import MODEL, as_integer, file_kind, reading
from atv_local.errors import ModelError
from atv_local.target.first_load import check_loadable
from atv_local.target.native import NativeObject

MAX_GPU_LAYERS = 10_000  # llama.cpp takes 32 bits; no model has as many
_PIECE = 1 << 20
_log: deque[str] = deque(maxlen=8)


@lib.llama_log_callback  # type: ignore[untyped-decorator]  # ctypes made it
def _keep_errors(level: int, text: bytes, _user_data: Any) -> None:
    if level >= 3:  # GGML_LOG_LEVEL_ERROR; the rest is load-time chatter
        _log.append(text.decode("utf-8", "replace").strip())


lib.llama_log_set(_keep_errors, ctypes.c_void_p(0))


def last_error() -> str:
    """The first error llama.cpp logged since the last call, or an empty string. Clears the log."""
    try:
        message = _log[0]
    except IndexError:  # also where another thread has cleared it just now
        message = ""
    _log.clear()
    return message.split(": ", 1)[-1]


class Model:
    """The weights (or only the vocabulary) of one GGUF in llama.cpp.

    A file is loaded for the first time in a process of its own, unless `tried`.

    Raises:
        NotFoundError: no such file.
        ModelError: not a GGUF, or llama.cpp cannot load it.
        UsageError: `n_gpu_layers` below -1 or above 10,000.
    """

    def __init__(self, path: Path, *, n_gpu_layers: int = -1, vocab_only: bool = False, tried: bool = False) -> None:
        check_gguf(path)
        n_gpu_layers = as_integer("n_gpu_layers", n_gpu_layers, -1, MAX_GPU_LAYERS, note="-1 offloads all")
        if not tried:
            check_loadable(path)
        params = lib.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.vocab_only = vocab_only
        _log.clear()
        with interrupts_deferred():
            handle = lib.llama_model_load_from_file(os.fsencode(path), params)
            if not handle:
                reason = last_error() or "no reason given"
                raise ModelError(f"llama.cpp cannot load {path}: {reason}")
            self.path = path
            self.handle = handle
            self._native = NativeObject(handle, lib.llama_model_free, path.name)
        if lib.llama_vocab_type(lib.llama_model_get_vocab(handle)) == lib.LLAMA_VOCAB_TYPE_NONE:
            raise ModelError(f"{path} has no vocabulary, so it cannot answer in text")

    def meta(self, key: str) -> str:
        """The GGUF's metadata value for `key` as a string, empty if it has none (llama_model_meta_val_str)."""
        buffer = ctypes.create_string_buffer(1024)
        length = lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""

    @property
    def architecture(self) -> str:
        """The GGUF's `general.architecture`, such as `llama`."""
        return self.meta("general.architecture")

    @property
    def quantisation(self) -> str:
        """The format of most of its tensors (`general.file_type`), such as `Q4_1`; empty if it does not say."""
        from gguf import LlamaFileType

        number = self.meta("general.file_type")
        try:
            return LlamaFileType(int(number)).name.removeprefix("MOSTLY_")
        except ValueError:  # none, or newer than the library
            return number

    @property
    def n_ctx(self) -> int:
        """Tokens of context the model was trained for."""
        return int(lib.llama_model_n_ctx_train(self.handle)) or self._number("context_length")

    @property
    def n_ctx_unscaled(self) -> int:
        """The largest context that positions are not scaled for, 0 if the model does not say.

        Of a model with two sets of rope factors, such as Phi 3.5, llama.cpp uses the other one in larger contexts.
        """
        return self._number("rope.scaling.original_context_length")

    @property
    def n_layer(self) -> int:
        """Number of blocks without those that predict further tokens; steerable are layers 1 to n_layer-1."""
        counted = self._number("block_count") - self._number("nextn_predict_layers")
        return int(lib.llama_model_n_layer(self.handle)) or max(0, counted)

    @property
    def n_embd(self) -> int:
        """Width of the hidden state."""
        return int(lib.llama_model_n_embd(self.handle)) or self._number("embedding_length")

    def _number(self, key: str) -> int:
        """A size as the GGUF's metadata says it: with the vocabulary alone llama.cpp does not fill in its own."""
        value = self.meta(f"{self.architecture}.{key}")
        return int(value) if value.isdecimal() else 0


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold a Ctrl-C until llama.cpp has returned: raised in its log callback, it would be lost."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    held: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda *_: held.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def identity(path: Path) -> str:
    """Size and hash of a GGUF's two ends: what it says of itself, and weights. All of it could take minutes.

    Raises:
        ModelError: it cannot be read.
    """
    with reading(f"the model {path}", ModelError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.sha256(file.read(_PIECE))
        file.seek(max(0, size - _PIECE))
        digest.update(file.read(_PIECE))
    return f"{size}:{digest.hexdigest()}"


def check_gguf(path: Path) -> None:
    """Raise ModelError unless `path` is a file that starts as the GGUF of a model does."""
    with reading(f"the model {path}", ModelError):
        kind = file_kind(path)
    if kind != MODEL:
        raise ModelError(f"{path} is not a GGUF model: it is {kind.words}")
