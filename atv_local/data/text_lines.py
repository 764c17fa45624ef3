"""Lines of a UTF-8 file of any size, one in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from atv_local.errors import DataError

MAX_LINE_BYTES = 1 << 20
"""The size limit of a line, and of a row that spans several lines."""
_MAX_SKIPPED_BYTES = 64 << 20  # of a line that is too long; a device such as /dev/zero has no end of it


class RowTooLongError(Exception):
    """A row spans more than `MAX_LINE_BYTES`."""


class TextLines:
    """An iterator over lines with their line breaks. A byte order mark is left out.

    A line that is too long, is not UTF-8 or has a NUL is not an exception but a problem to take: a row may span
    lines, and its parser has to see all of them to find the next row. Only a line that does not end for 64 MiB raises
    DataError: the file has none.

    Args:
        file: read line by line, so a pipe will do.
        path: the file's name, for messages.
        on_bytes: called with all that is read.
    """

    def __init__(self, file: BinaryIO, path: Path, on_bytes: Callable[[bytes], object] = lambda _: None) -> None:
        self.path = path
        self.number = 0
        """The number of the last line read, from 1."""
        self.end = 0
        """Bytes of the file up to the end of that line."""
        self._file, self._on_bytes = file, on_bytes
        self._problem: tuple[int, str] | None = None
        self._row_start: int | None = None

    def __iter__(self) -> TextLines:
        return self

    def __next__(self) -> str:
        if self._row_start is not None and self.end - self._row_start > MAX_LINE_BYTES:
            raise RowTooLongError
        if not (data := self._read(MAX_LINE_BYTES + 1)):
            raise StopIteration
        self.number += 1
        if len(data) > MAX_LINE_BYTES:
            start = self.end
            while data and not data.endswith(b"\n"):
                if self.end - start > _MAX_SKIPPED_BYTES:
                    raise DataError(f"{self.path}:{self.number}: no line break in {_MAX_SKIPPED_BYTES} bytes; not text")
                data = self._read(MAX_LINE_BYTES)
            self._note(f"the line is longer than {MAX_LINE_BYTES} bytes")
            return "\n"
        encoding = "utf-8-sig" if self.number == 1 else "utf-8"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            self._note(f"not UTF-8 ({error.reason}); save the file as UTF-8")
            return data.decode(encoding, errors="replace")
        if "\0" in text:
            self._note("a NUL byte; save the file as UTF-8")
        return text

    def begin_row(self) -> None:
        """From here to the next call, reading more than `MAX_LINE_BYTES` raises RowTooLongError."""
        self._row_start = self.end

    def take_problem(self) -> tuple[int, str] | None:
        """The first problem since the last call: the number of its line, and a sentence."""
        problem, self._problem = self._problem, None
        return problem

    def _read(self, size: int) -> bytes:
        data = self._file.readline(size)
        self.end += len(data)
        self._on_bytes(data)
        return data

    def _note(self, problem: str) -> None:
        self._problem = self._problem or (self.number, problem)
