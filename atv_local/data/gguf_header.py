"""Reads the header of GGUF files, also malformed or hostile ones.

The gguf library trusts the lengths that a header declares: a hundred bytes can make it loop forever. Here nothing is
read past the end of the data (ggml, docs/gguf.md; versions 2 and 3, little-endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class GgufHeader:
    """A position in the header; first come the `values`, then `n_tensors` tensors.

    Args:
        data: the file, or its beginning.

    Raises:
        ValueError: not a GGUF, or data that ends too early, here and in every method.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        magic, version = self.take("4s"), self.take("I")
        if magic != MAGIC or version not in (2, 3):
            raise ValueError(f"it starts with {magic!r} and version {version}")
        self.n_tensors: int = self.take("Q")
        self._n_values: int = self.take("Q")

    def values(self) -> Iterator[tuple[str, Any]]:
        """Keys with their values, which are None for arrays. To be read to the end before the tensors are."""
        for _ in range(self._n_values):  # each takes bytes of the data, so a false count ends at its end
            yield self.text(), self._value(self.take("I"))

    def take(self, form: str) -> Any:
        """The next value of a `struct` format, such as `I`, little-endian."""
        size = struct.calcsize(f"<{form}")
        (found,) = struct.unpack("<" + form, self._raw(size))
        return found

    def text(self) -> str:
        """A length and as many bytes of UTF-8."""
        return self._raw(self.take("Q")).decode("utf-8")

    def _raw(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise ValueError("it ends before its header does")
        self.at += size
        return self.data[self.at - size : self.at]

    def _value(self, kind: int) -> Any:
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
            self._raw(length * struct.calcsize(f"<{_FORMATS[inner]}"))
        else:
            raise ValueError(f"it has an array of type {inner}")
        return None
