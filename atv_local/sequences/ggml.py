"""The part of ggml that lets a tensor of llama.cpp be looked at and given other memory."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import llama_cpp as lib
from llama_cpp._ctypes_extensions import load_shared_library

F32 = 0
"""GGML_TYPE_F32"""

_MAX_NAME = 64

ggml: Any = load_shared_library("ggml-base", Path(lib.__file__).parent / "lib")


class _InitParams(ctypes.Structure):
    """ggml_init_params"""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def _declare(name: str, result: Any, *arguments: Any) -> None:
    function = getattr(ggml, name)
    function.restype, function.argtypes = result, list(arguments)


def replace_in_block(address: int, old: bytes, new: bytes) -> bool:
    """Replace the only occurrence of some bytes in a block of the C heap; False if that cannot be done.

    Args:
        address: what malloc returned, such as an object of C++ made with `new`.
        old: as long as `new`, and aligned to pointers.
    """
    for name in ("malloc_usable_size", "malloc_size"):  # glibc and musl; macOS
        if (size_of := getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None) is not None:
            break
    else:
        return False
    size_of.restype, size_of.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    block = (ctypes.c_char * size_of(address)).from_address(address)
    if block.raw.count(old) != 1 or (place := block.raw.index(old)) % ctypes.sizeof(ctypes.c_void_p):
        return False
    ctypes.memmove(address + place, new, len(new))
    return True


_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
_declare("ggml_get_name", ctypes.c_char_p, _pointer)
_declare("ggml_get_data", _pointer, _pointer)
_declare("ggml_op_desc", ctypes.c_char_p, _pointer)
_declare("ggml_tensor_overhead", _size)
_declare("ggml_init", _pointer, _InitParams)
_declare("ggml_free", None, _pointer)
_declare("ggml_new_tensor_2d", _pointer, _pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_declare("ggml_backend_buffer_get_type", _pointer, _pointer)
_declare("ggml_backend_alloc_ctx_tensors_from_buft", _pointer, _pointer, _pointer)
_declare("ggml_backend_buffer_free", None, _pointer)
_declare("ggml_backend_tensor_set", None, _pointer, _pointer, _size, _size)


class Tensor(ctypes.Structure):
    """ggml_tensor. Its layout is not part of ggml's interface, so `at` compares it with what ggml says."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", _pointer),
        ("ne", ctypes.c_int64 * 4),
        ("nb", _size * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", _pointer * 10),
        ("view_src", _pointer),
        ("view_offs", _size),
        ("data", _pointer),
        ("name", ctypes.c_char * _MAX_NAME),
    )

    @classmethod
    def at(cls, address: int) -> Tensor:
        """The tensor of ggml at an address: a view.

        Raises:
            ValueError: ggml, which knows the layout, finds other values than are read here.
        """
        tensor = cls.from_address(address)
        known = (tensor.data or 0, tensor.name) == (ggml.ggml_get_data(address) or 0, ggml.ggml_get_name(address))
        if not known or tensor.type != F32 or tensor.nb[0] != 4 or tensor.nb[1] != 4 * tensor.ne[0]:
            raise ValueError("this version of ggml has another layout of tensors")
        return tensor

    @property
    def address(self) -> int:
        """Where ggml has it."""
        return ctypes.addressof(self)

    @property
    def n_rows(self) -> int:
        """Rows of a matrix or vector."""
        return int(self.ne[1])

    @n_rows.setter
    def n_rows(self, n_rows: int) -> None:
        self.ne[1] = n_rows
        self.nb[2] = self.nb[3] = n_rows * self.nb[1]


class TensorMemory:
    """Memory for matrices of one size, in the buffer type of a tensor: the host's, or that of a device.

    Args:
        like: whose buffer type is used.
        count: how many matrices.
        n_columns: of each, float32.
        n_rows: of each.

    Raises:
        ValueError: there is no memory.
    """

    def __init__(self, like: Tensor, count: int, n_columns: int, n_rows: int) -> None:
        self._context = ggml.ggml_init(_InitParams(count * ggml.ggml_tensor_overhead(), None, True))
        made = [ggml.ggml_new_tensor_2d(self._context, F32, n_columns, n_rows) for _ in range(count)]
        buffer_type = ggml.ggml_backend_buffer_get_type(like.buffer)
        self._buffer = ggml.ggml_backend_alloc_ctx_tensors_from_buft(self._context, buffer_type)
        if not self._buffer:
            ggml.ggml_free(self._context)
            raise ValueError(f"no memory for {count} matrices of {n_rows} rows")
        self.tensors = [Tensor.at(address) for address in made]

    def free(self) -> None:
        """Give it back; nothing may use it any more."""
        ggml.ggml_backend_buffer_free(self._buffer)
        ggml.ggml_free(self._context)
