"""Reading rows of tasks, and queries, from JSON Lines, CSV and text files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from atv_local.data.columns import DEFAULT_COLUMNS, Columns, RowParser
from atv_local.data.file_errors import reading
from atv_local.data.packed_files import without_compression
from atv_local.data.records import has_rows, read_records
from atv_local.data.text_lines import TextLines
from atv_local.errors import DataError, UsageError
from atv_local.text import some_of

MAX_QUERY_BYTES = 64 << 20
_Model = TypeVar("_Model", bound=BaseModel)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "it has a NUL character; remove it")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "it is blank")
    return text


TextOrBlank = Annotated[str, AfterValidator(_without_nul)]
NonBlank = Annotated[TextOrBlank, AfterValidator(_not_blank)]
_Texts = Annotated[tuple[NonBlank, ...], Field(strict=False)]  # not strict: JSON has lists, no tuples


class Row(BaseModel):
    """One training row: what the user asks and what the target should answer, one of `choices` where there are some.

    `references` are further right answers. `instruction` says what to do with the input; a steered prompt goes without.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    input: NonBlank
    output: NonBlank
    task: TextOrBlank = Field(default="", max_length=200)
    choices: _Texts | None = None
    references: _Texts | None = None
    instruction: NonBlank | None = None

    @field_validator("choices")
    @classmethod
    def _hold_the_output(cls, choices: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        output = info.data.get("output")
        if choices is not None and output is not None and output not in choices:
            raise PydanticCustomError("choices", "the output {output} is not among them", {"output": repr(output[:40])})
        return choices


class _QueryRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    input: NonBlank


@dataclass(frozen=True)
class RowFile:
    """The rows of one file and the hash of the bytes they were read from."""

    name: str
    rows: list[Row]
    sha256: str


OnNote = Callable[[str], None]


def data_files(paths: Iterable[Path], on_note: OnNote = lambda _: None) -> list[Path]:
    """Files in order; a folder stands for the JSON and CSV files right inside it, sorted by name.

    Args:
        paths: files and folders.
        on_note: called with a sentence that names the other files of a folder.

    Raises:
        DataError: a folder without such files.
        UsageError: a file that is given twice.
    """
    files: dict[str, Path] = {}
    for path in paths:
        for file in _files(path, on_note):
            if (place := os.path.realpath(file)) in files:
                raise UsageError(f"{file} is given twice; leave one out")
            files[place] = file
    return list(files.values())


def _files(path: Path, on_note: OnNote) -> list[Path]:
    with reading(path):
        if not path.is_dir():
            return [path]
        inside = sorted(file for file in path.iterdir() if not file.is_dir())
    inside = [file for file in inside if not file.name.startswith(".")]  # macOS leaves such files about
    files = [file for file in inside if has_rows(file)]
    if not files:
        raise DataError(f"the folder {path} has no file of rows, such as .jsonl or .csv")
    if others := [file.name for file in inside if file not in files]:
        on_note(f"{path}: not read, as these are not files of rows: {some_of(others)}")
    return files


def read_rows(path: Path, columns: Columns = DEFAULT_COLUMNS, on_note: OnNote = lambda _: None) -> RowFile:
    """The rows of a file in order: JSON Lines or CSV, by its name.

    A row without `task` belongs to the task named after its file. In CSV, `|` stands between choices
    and `references` is one text. The file is read once, so it may be a pipe, and the hash is that of the rows trained
    on.

    Raises:
        DataError: an unreadable file, a bad line (named by file and number), or no rows at all.
        UsageError: `columns` names a part that rows do not have.
    """
    digest = hashlib.sha256()
    rows = [
        row if row.task else row.model_copy(update={"task": without_compression(path).stem[:200]})
        for row, _ in _read(path, RowParser(Row, columns), on_note, digest.update)
    ]
    if not rows:
        raise DataError(f"{path} has no rows")
    return RowFile(path.name, rows, digest.hexdigest())


def read_queries(path: Path, columns: Columns = DEFAULT_COLUMNS, on_note: OnNote = lambda _: None) -> list[str]:
    """The inputs of a file's rows in order: JSON Lines, CSV or lines of text, by its name.

    Raises:
        DataError: an unreadable or very large file, a bad line (named by file and number), or no queries at all.
        UsageError: `columns` names another part than `input`.
    """
    queries = []
    for row, end in _read(path, RowParser(_QueryRow, columns), on_note):
        if end > MAX_QUERY_BYTES:
            raise DataError(f"{path} is larger than {MAX_QUERY_BYTES} bytes; give fewer queries")
        queries.append(row.input)
    if not queries:
        raise DataError(f"{path} has no queries")
    return queries


def _read(
    path: Path, parser: RowParser[_Model], on_note: OnNote, on_bytes: Callable[[bytes], object] = lambda _: None
) -> Iterator[tuple[_Model, int]]:
    """Rows, and bytes up to the end of each."""
    with reading(path), path.open("rb") as file:
        for record in read_records(TextLines(file, path, on_bytes), parser.check_names, on_note):
            try:
                row = parser.row(record)
            except DataError as error:
                raise DataError(f"{path}:{record.line}: {error}") from error
            yield row, record.end
