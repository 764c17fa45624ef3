"""Files of rows as other programs leave them: compressed ones are unpacked, others are named for what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from atv_local.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz")
"""The endings of compressed files, which follow that of the format: `rows.csv.gz`."""
MAX_UNPACKED_BYTES = 4 << 30
"""Of a compressed file: some thousand times the rows that anybody trains on, and a bound for a file made to fill the
memory, of which a kilobyte may stand for a megabyte."""
_OPENERS: dict[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""By the first bytes of a file."""
_OTHERS = {
    b"PK\x03\x04": "a zip archive or a workbook; unpack it, or save its sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook; save its sheet as CSV",
    b"PAR1": "a Parquet file; write its rows as JSON Lines",
    b"ARROW1": "an Arrow file; write its rows as JSON Lines",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or use gzip",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"\xff\xfe\0\0": "UTF-32 text, not UTF-8; save the file as UTF-8",
    b"\xff\xfe": "UTF-16 text, not UTF-8; save the file as UTF-8",
    b"\xfe\xff": "UTF-16 text, not UTF-8; save the file as UTF-8",
}


def unpacked(file: BinaryIO, path: Path) -> BinaryIO:
    """The file, or what is compressed in it.

    Raises:
        DataError: a file that is not text.
    """
    if not isinstance(file, io.BufferedReader):
        file = io.BufferedReader(cast("io.RawIOBase", file))
    begin = file.peek(8)
    for magic, kind in _OTHERS.items():
        if begin.startswith(magic):
            raise DataError(f"{path} is {kind}")
    opener = next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), None)
    return file if opener is None else cast("BinaryIO", _Bounded(cast("BinaryIO", opener(file)), path))


def is_compressed(path: Path) -> bool:
    """Whether it is named as a compressed file."""
    return path.suffix.lower() in COMPRESSED


def without_compression(path: Path) -> Path:
    """The name of what is in a compressed file: `rows.csv` for `rows.csv.gz`."""
    return path.with_suffix("") if is_compressed(path) else path


class _Bounded:
    """Lines of a compressed file of bounded size."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._left = file, path, MAX_UNPACKED_BYTES

    def readline(self, size: int) -> bytes:
        try:
            data = self._file.readline(size)
        except OSError as error:  # not of the disk
            raise DataError(f"{self._path} is a damaged compressed file: {error}") from error
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._path} is larger than {MAX_UNPACKED_BYTES} bytes when unpacked; divide it")
        return data
