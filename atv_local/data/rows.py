"""Reading rows of tasks, and queries, from JSON Lines, CSV and text files."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from atv_local.data.bad_rows import BadRows
from atv_local.data.columns import DEFAULT_COLUMNS, Columns
from atv_local.data.file_errors import reading
from atv_local.data.packed_files import without_compression
from atv_local.data.records import has_rows, read_records
from atv_local.data.row_parser import OnNote, RowParser
from atv_local.data.row_values import ChoiceTexts, History, NonBlank, ReferenceTexts, TextOrBlank
from atv_local.data.task_instructions import tell
from atv_local.data.text_lines import TextLines
from atv_local.errors import DataError, UsageError
from atv_local.text import counted, some_of

MAX_QUERY_BYTES = 64 << 20
_Model = TypeVar("_Model", bound=BaseModel)


class Row(BaseModel):
    """One training row: what the user asks and what the target should answer, one of `choices` where there are some.

    `references` are further right answers. `instruction` says what to do with the input, and comes before it.
    `system` and `history`, which are earlier questions with their answers, come before the input in every prompt.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    input: NonBlank
    output: NonBlank
    task: TextOrBlank = Field(default="", max_length=200)
    choices: ChoiceTexts | None = None
    references: ReferenceTexts | None = None
    instruction: NonBlank | None = None
    system: NonBlank | None = None
    history: History = ()

    @field_validator("choices")
    @classmethod
    def _hold_the_output(cls, choices: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        output = info.data.get("output")
        if choices is not None and output is not None and output not in choices:
            words = {"output": repr(output[:40]), "choices": some_of([repr(choice[:40]) for choice in choices], 4)}
            raise PydanticCustomError("choices", "the output {output} is not among them, which are {choices}", words)
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
        inside = sorted(path.iterdir())
    inside = [file for file in inside if not file.name.startswith(".")]  # macOS leaves such files about
    files = [file for file in inside if has_rows(file) and not file.is_dir()]
    if not files:
        raise DataError(f"the folder {path} has no file of rows, such as .jsonl or .csv")
    if others := [file.name for file in inside if file not in files]:
        on_note(f"{path}: not read, as these are not files of rows: {some_of(others)}")
    return files


def read_rows(path: Path, columns: Columns = DEFAULT_COLUMNS, on_note: OnNote = lambda _: None) -> RowFile:
    """The rows of a file; see `read_row_files`."""
    ((file,),) = read_row_files([path], columns=columns, on_note=on_note)
    return file


def read_row_files(
    *groups: Iterable[Path],
    columns: Columns = DEFAULT_COLUMNS,
    skip_bad_rows: bool = False,
    on_note: OnNote = lambda _: None,
) -> list[list[RowFile]]:
    """The rows of files in order, JSON or CSV by their names; folders stand for the files in them.

    A row without `task` belongs to the task named after its file. In CSV, `|` stands between choices and `references`
    is one text. A file is read once, so it may be a pipe, and the hash is that of the rows trained on.

    Args:
        groups: of files, such as those of training and of validation.
        columns: what the files call the parts of rows.
        skip_bad_rows: go on without them; they are counted in a note.
        on_note: called with a sentence for what is passed over or read in another way than its name says.

    Raises:
        DataError: an unreadable file, bad rows (all of them named by file and number), or a file without rows.
        UsageError: `columns` names a part that rows do not have, or a file is given twice in a group.
    """
    bad = BadRows()
    files = [[_row_file(path, columns, bad, on_note) for path in data_files(paths, on_note)] for paths in groups]
    if bad.n and not skip_bad_rows:
        raise bad.error()
    for file in (file for group in files for file in group if not file.rows):
        raise DataError(f"{file.name} has no row that is not bad: {bad}")
    if bad.n:
        on_note(f"{counted(bad.n, 'bad row')} left out: {bad}")
    return files


def _row_file(path: Path, columns: Columns, bad: BadRows, on_note: OnNote) -> RowFile:
    digest, parser = hashlib.sha256(), RowParser(Row, columns, path, on_note)
    rows = [row for row, _ in _read(path, parser, bad, digest.update)]
    if not rows and not bad.n:
        raise DataError(f"{path} has no rows")
    if "instruction" not in columns and (own := _with_own_instructions(rows)) is not rows:
        rows = own
        on_note(f"{path}: 'instruction' is put before the input, as in Alpaca's rows")
    task = without_compression(path).stem[:200]
    named = [row if row.task else row.model_copy(update={"task": task}) for row in rows]
    return RowFile(path.name, named, digest.hexdigest())


def _with_own_instructions(rows: list[Row]) -> list[Row]:
    """The rows with instructions as a part of the input, if most rows have another one, as Alpaca's have.

    An instruction that more than half of them share says what the task asks; so it does in rows that name the task, or
    have choices or references.
    """
    said = Counter(row.instruction for row in rows if row.instruction and not _names_task(row))
    if not said or 2 * said.most_common(1)[0][1] > said.total():
        return rows
    return [
        row
        if row.instruction is None or _names_task(row)
        else row.model_copy(update={"input": tell(row.instruction, row.input), "instruction": None})
        for row in rows
    ]


def _names_task(row: Row) -> bool:
    return bool(row.task) or row.choices is not None or row.references is not None


def read_queries(path: Path, columns: Columns = DEFAULT_COLUMNS, on_note: OnNote = lambda _: None) -> list[str]:
    """The inputs of a file's rows in order: JSON, CSV or lines of text, by its name.

    Raises:
        DataError: an unreadable or very large file, bad rows (all of them named by file and number), or no queries.
        UsageError: `columns` names another part than `input`.
    """
    queries, bad = [], BadRows()
    for row, end in _read(path, RowParser(_QueryRow, columns, path, on_note), bad):
        if end > MAX_QUERY_BYTES:
            raise DataError(f"{path} is larger than {MAX_QUERY_BYTES} bytes; give fewer queries")
        queries.append(row.input)
    if bad.n:
        raise bad.error()
    if not queries:
        raise DataError(f"{path} has no queries")
    return queries


def _read(
    path: Path, parser: RowParser[_Model], bad: BadRows, on_bytes: Callable[[bytes], object] = lambda _: None
) -> Iterator[tuple[_Model, int]]:
    """Good rows, and bytes up to the end of each."""
    with reading(path), path.open("rb") as file:
        for record in read_records(TextLines(file, path, on_bytes), parser.check_names, parser.on_note):
            try:
                yield parser.row(record), record.end
            except DataError as error:
                bad.add(path, record.line, str(error))
