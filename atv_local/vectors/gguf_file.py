"""Reads small GGUF files, also malformed or hostile ones.

The gguf library trusts the lengths that a header declares: a hundred bytes can make it loop forever. Here nothing is
read past the end of the file, and nothing is larger than it (ggml, docs/gguf.md; versions 2 and 3, little-endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_F32 = 0
_MAX_TENSORS = 1 << 16


@dataclass(frozen=True)
class GgufFile:
    """Its single values by key (arrays are left out), and its tensors, float32 and one-dimensional, by name."""

    values: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]


def parse(data: bytes) -> GgufFile:
    """Read the whole file.

    Raises:
        ValueError: not such a file, a length past its end, or a tensor of another kind.
    """
    header = _Cursor(data)
    magic, version = header.take("4s"), header.take("I")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"it starts with {magic!r} and version {version}")
    n_tensors, n_values = header.take("Q"), header.take("Q")
    if n_tensors > _MAX_TENSORS:
        raise ValueError(f"it declares {n_tensors} tensors")
    values: dict[str, Any] = {}
    for _ in range(n_values):  # each takes bytes of the file, so a false count ends at its end
        key, value = header.text(), header.value(header.take("I"))
        if value is not None:
            values[key] = value
    places: dict[str, tuple[int, int]] = {}
    for _ in range(n_tensors):
        name, n_axes = header.text(), header.take("I")
        if n_axes != 1 or name in places:
            raise ValueError(f"its tensor {name!r} has {n_axes} axes or comes twice")
        length, kind, offset = header.take("Q"), header.take("I"), header.take("Q")
        if kind != _F32:
            raise ValueError(f"its tensor {name!r} is not float32")
        places[name] = offset, length
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16:
        raise ValueError(f"its alignment is {alignment!r}")
    start = -(-header.at // alignment) * alignment
    if sum(length for _, length in places.values()) * 4 > len(data):
        raise ValueError("its tensors are larger than the file")
    tensors = {}
    for name, (offset, length) in places.items():
        first = start + offset
        if not 0 < length <= (len(data) - first) // 4:
            raise ValueError(f"its tensor {name!r} is not within the file")
        tensors[name] = np.frombuffer(data, dtype="<f4", count=length, offset=first).astype(np.float32)
    return GgufFile(values, tensors)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        """The next value of a `struct` format, such as `I`, little-endian."""
        size = struct.calcsize(f"<{form}")
        (found,) = struct.unpack("<" + form, self.raw(size))
        return found

    def raw(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > len(self.data) - self.at:
            raise ValueError("it ends before its header does")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        """A length and as many bytes of UTF-8."""
        return self.raw(self.take("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        """A single value; None for an array, which is passed over."""
        if kind == _STRING:
            return self.text()
        if kind in _FORMATS:
            return self.take(_FORMATS[kind])
        if kind != _ARRAY:
            raise ValueError(f"it has a value of type {kind}")
        inner, length = self.take("I"), self.take("Q")
        if inner == _STRING:
            for _ in range(length):
                self.text()
        elif inner in _FORMATS:
            self.raw(length * struct.calcsize(f"<{_FORMATS[inner]}"))
        else:
            raise ValueError(f"it has an array of type {inner}")
        return None
