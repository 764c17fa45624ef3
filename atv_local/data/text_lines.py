"""Lines of a UTF-8 file of any size, one in memory at a time."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from atv_local.data.packed_files import unpacked, without_compression
from atv_local.errors import DataError

MAX_LINE_BYTES = 1 << 20
"""The size limit of a line, and of a row that spans several lines."""
_MAX_SKIPPED_BYTES = 64 << 20  # of a line that is too long; a device such as /dev/zero has no end of it
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # the byte order mark


class RowTooLongError(Exception):
    """A row spans more than `MAX_LINE_BYTES`."""


class TextLines:
    """An iterator over lines with their line breaks. A compressed file is unpacked. The byte order mark before a row is
    left out; there are several where files have been joined.

    A line that is too long, is not UTF-8 or has a NUL is not an exception but a problem to take: a row may span
    lines, and its parser has to see all of them to find the next row. DataError is raised for a line that does not end
    for 64 MiB, as the file has none, and for a compressed file that is damaged.

    Args:
        file: read line by line, so a pipe will do.
        path: the file's name, for messages.
        on_bytes: called with all that is read, unpacked.

    Raises:
        DataError: a file of another program, such as a workbook.
    """

    def __init__(self, file: BinaryIO, path: Path, on_bytes: Callable[[bytes], object] = lambda _: None) -> None:
        self.path = path
        self.suffix = without_compression(path).suffix.lower()
        """The end of its name that says which format it has."""
        self.number = 0
        """The number of the last line read, from 1."""
        self.end = 0
        """Bytes of the unpacked file up to the end of that line."""
        self._file, self._on_bytes = unpacked(file, path), on_bytes
        self._ahead = b""
        self._problem: tuple[int, str] | None = None
        self._row_start: int | None = None

    def __iter__(self) -> TextLines:
        return self

    def __next__(self) -> str:
        if self._row_start is not None and self.end - self._row_start > MAX_LINE_BYTES:
            raise RowTooLongError
        begins_row = self._row_start in (None, self.end)
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
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            self._note(f"not UTF-8 ({error.reason}); save the file as UTF-8")
            text = data.decode(errors="replace")
        if "\0" in text:
            self._note("a NUL byte; save the file as UTF-8")
        return text.removeprefix(_MARK) if begins_row else text

    def peek(self) -> str:
        """The first line that is not blank, or its beginning, before it is read."""
        while not self._ahead.strip() and len(self._ahead) <= MAX_LINE_BYTES:
            if not (data := self._line(MAX_LINE_BYTES + 1)):
                break
            self._ahead += data
        return self._ahead.decode(errors="replace").removeprefix(_MARK).lstrip()

    def read_all(self, limit: int) -> str:
        """The text that is left.

        Raises:
            ValueError: more than `limit` bytes, or not UTF-8 text.
        """
        parts, size = [], 0
        while data := self._read(MAX_LINE_BYTES):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise ValueError(f"a document of more than {limit} bytes; write one row on each line")
        return b"".join(parts).decode().removeprefix(_MARK)

    def begin_row(self) -> None:
        """From here to the next call, reading more than `MAX_LINE_BYTES` raises RowTooLongError."""
        self._row_start = self.end

    def take_problem(self) -> tuple[int, str] | None:
        """The first problem since the last call: the number of its line, and a sentence."""
        problem, self._problem = self._problem, None
        return problem

    def _read(self, size: int) -> bytes:
        if place := self._ahead.find(b"\n") + 1:
            data, self._ahead = self._ahead[:place], self._ahead[place:]
        else:
            data, self._ahead = self._ahead, b""
            data += self._line(size - len(data))
        self.end += len(data)
        self._on_bytes(data)
        return data

    def _line(self, size: int) -> bytes:
        try:
            return self._file.readline(size)
        except (EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{self.path} is a damaged compressed file: {error}") from error

    def _note(self, problem: str) -> None:
        self._problem = self._problem or (self.number, problem)
