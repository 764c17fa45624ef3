"""What a GGUF says about its model, read by ggml itself: the gguf library takes seconds for a large vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp._ctypes_extensions import load_shared_library

from atv_local.errors import ModelError

_F32 = 0
_VALUES = {
    0: ("u8", ctypes.c_uint8),
    1: ("i8", ctypes.c_int8),
    2: ("u16", ctypes.c_uint16),
    3: ("i16", ctypes.c_int16),
    4: ("u32", ctypes.c_uint32),
    5: ("i32", ctypes.c_int32),
    6: ("f32", ctypes.c_float),
    8: ("str", ctypes.c_char_p),
    10: ("u64", ctypes.c_uint64),
    11: ("i64", ctypes.c_int64),
    12: ("f64", ctypes.c_double),
}
"""ggml's types of single numbers and texts, and the functions that give them."""


class _Options(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


_ggml: Any = load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
_ggml.gguf_init_from_file.argtypes, _ggml.gguf_init_from_file.restype = [ctypes.c_char_p, _Options], ctypes.c_void_p
_ggml.gguf_free.argtypes, _ggml.gguf_free.restype = [ctypes.c_void_p], None
_ggml.gguf_get_data_offset.argtypes, _ggml.gguf_get_data_offset.restype = [ctypes.c_void_p], ctypes.c_size_t
for _find in (_ggml.gguf_find_key, _ggml.gguf_find_tensor):
    _find.argtypes, _find.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_int64
for _of_tensor in (_ggml.gguf_get_tensor_offset, _ggml.gguf_get_tensor_size):
    _of_tensor.argtypes, _of_tensor.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_size_t
for _kind in (_ggml.gguf_get_kv_type, _ggml.gguf_get_tensor_type):
    _kind.argtypes, _kind.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_int
for _name, _type in _VALUES.values():
    _get = getattr(_ggml, f"gguf_get_val_{_name}")
    _get.argtypes, _get.restype = [ctypes.c_void_p, ctypes.c_int64], _type


class GgufMetadata:
    """An open GGUF; see `read_metadata`."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle
        self.architecture = str(self._value("general.architecture") or "")

    def __contains__(self, tensor: str) -> bool:
        return _ggml.gguf_find_tensor(self._handle, tensor.encode()) >= 0

    def number(self, key: str) -> int | float | None:
        """A number by its key without the architecture; None if there is none, or one for each layer."""
        value = self._value(f"{self.architecture}.{key}")
        return value if isinstance(value, int | float) else None

    def text(self, key: str) -> str:
        """A text by its key without the architecture, empty if there is none."""
        value = self._value(f"{self.architecture}.{key}")
        return value if isinstance(value, str) else ""

    def tensor(self, name: str) -> list[float] | None:
        """The values of a float32 tensor; None if there is none."""
        index = _ggml.gguf_find_tensor(self._handle, name.encode())
        if index < 0 or _ggml.gguf_get_tensor_type(self._handle, index) != _F32:
            return None
        start = _ggml.gguf_get_data_offset(self._handle) + _ggml.gguf_get_tensor_offset(self._handle, index)
        count = _ggml.gguf_get_tensor_size(self._handle, index) // 4
        return [float(value) for value in np.fromfile(self._path, np.float32, count, offset=start)]

    def _value(self, key: str) -> int | float | str | None:
        index = _ggml.gguf_find_key(self._handle, key.encode())
        kind = _ggml.gguf_get_kv_type(self._handle, index) if index >= 0 else None
        if kind not in _VALUES:
            return None
        value = getattr(_ggml, f"gguf_get_val_{_VALUES[kind][0]}")(self._handle, index)
        return value.decode(errors="replace") if isinstance(value, bytes) else value


@contextmanager
def read_metadata(path: Path) -> Iterator[GgufMetadata]:
    """Within the context, the metadata of the GGUF at `path`.

    Raises:
        ModelError: ggml cannot read it.
    """
    handle = _ggml.gguf_init_from_file(str(path).encode(), _Options(True, None))
    if not handle:
        raise ModelError(f"{path} is not a GGUF that ggml can read")
    try:
        yield GgufMetadata(path, handle)
    finally:
        _ggml.gguf_free(handle)
