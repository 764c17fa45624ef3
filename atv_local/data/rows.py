"""Task rows from JSON Lines and CSV. Knows nothing of tokens."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, from_json

from atv_local.errors import DataError, UsageError, first_problem

MAX_LINE_BYTES = 1 << 20
SUFFIXES = (".csv", ".jsonl")
_EXAMPLE = 'a row is {"input": "...", "output": "..."}'
_QUOTING = "a field with commas, quotes or line breaks stands in double quotes"
_Located = tuple[str, dict[str, Any]]  # file:line, parts of a row


def _some_text(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "nothing is written there")
    if "\0" in text:
        raise PydanticCustomError("nul", "it has a NUL character, which is no text")
    return text


Text = Annotated[str, AfterValidator(_some_text)]


class Row(BaseModel):
    """One training row: what the user asks and what the target shall answer, one of `choices` where there are some."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    input: Text
    output: Text
    task: str = Field(default="", max_length=200)
    choices: Annotated[tuple[Text, ...], Field(strict=False)] | None = None  # not strict: JSON has lists, no tuples

    @field_validator("choices")
    @classmethod
    def _hold_the_output(cls, choices: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        output = info.data.get("output")
        if choices is not None and output is not None and output not in choices:
            raise PydanticCustomError("choices", "the output {output} is not among them", {"output": repr(output[:40])})
        return choices


@dataclass(frozen=True)
class RowFile:
    """The rows of one file and the hash of the bytes they were read from."""

    name: str
    rows: list[Row]
    sha256: str


@dataclass(frozen=True)
class Columns:
    """What a file calls the parts of a row. `task` and `choices` may be absent unless they have names of their own."""

    input: str = "input"
    output: str = "output"
    task: str = "task"
    choices: str = "choices"

    @classmethod
    def parse(cls, options: Iterable[str]) -> Columns:
        """From options such as `input=question`.

        Raises:
            UsageError: no such part of a row, one named twice, or no name for it.
        """
        names: dict[str, str] = {}
        for option in options:
            part, _, name = option.partition("=")
            if part not in vars(DEFAULT_COLUMNS) or part in names or not name:
                parts = ", ".join(vars(DEFAULT_COLUMNS))
                raise UsageError(f"cannot read column {option!r}; write PART=NAME, once for each part of {parts}")
            names[part] = name
        return cls(**names)

    def pick(self, record: dict[str, Any], where: str) -> dict[str, Any]:
        """The parts of a row by our names.

        Raises:
            DataError: a column that must be there is not.
        """
        picked = {}
        for part, name in vars(self).items():
            if name in record:
                picked[part] = record[name]
            elif part in ("input", "output") or name != part:
                found = ", ".join(map(repr, record))[:200] or "none"
                raise DataError(f"{where}: no column {name!r}, found {found}; name yours with --column {part}=NAME")
        return picked


DEFAULT_COLUMNS = Columns()


def data_files(paths: Iterable[Path]) -> list[Path]:
    """Files in order; a folder stands for the .csv and .jsonl files right inside it, sorted by name.

    Raises:
        DataError: a folder without such files.
        UsageError: a file that is given twice.
    """
    files: dict[str, Path] = {}
    for path in paths:
        for file in _files(path):
            if (place := os.path.realpath(file)) in files:
                raise UsageError(f"{file} is given twice; leave one out")
            files[place] = file
    return list(files.values())


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        inside = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.is_dir()]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not (files := sorted(file for file in inside if not file.name.startswith("."))):  # macOS leaves such files about
        raise DataError(f"the folder {path} has no {' or '.join(SUFFIXES)} file")
    return files


def read_rows(path: Path, columns: Columns = DEFAULT_COLUMNS) -> RowFile:
    """Rows of a file in order, from CSV if it is named .csv, else from JSON Lines.

    A row without `task` belongs to the task named after its file. In CSV, `|` stands between choices. The file is
    read once, so it may be a pipe, and the hash is that of the rows trained on.

    Raises:
        DataError: an unreadable file, a bad line (named by file and number), or no rows at all.
    """
    digest = hashlib.sha256()
    records = _csv_records if path.suffix.lower() == ".csv" else _json_records
    try:
        with path.open("rb") as file:
            lines = _lines(file, path, digest.update)
            rows = [_row(record, where, path.stem, columns) for where, record in records(lines, path, columns)]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    return RowFile(path.name, rows, digest.hexdigest())


def _lines(file: BinaryIO, path: Path, on_bytes: Callable[[bytes], object]) -> Iterator[str]:
    for number in count(1):
        if not (line := file.readline(MAX_LINE_BYTES + 1)):
            return
        on_bytes(line)
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{path}:{number}: the line is longer than {MAX_LINE_BYTES} bytes")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
        if "\0" in text:
            raise DataError(f"{path}:{number}: a NUL byte, which no text has; save the file as UTF-8")
        yield text


def _json_records(lines: Iterator[str], path: Path, columns: Columns) -> Iterator[_Located]:
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            where = f"{path}:{number}"
            try:
                record = from_json(text)
            except ValueError as error:
                reason = str(error).replace(" line 1 ", " ")  # line 1 of the text, not of the file
                raise DataError(f"{where}: not JSON: {reason}; {_EXAMPLE}") from error
            if not isinstance(record, dict):
                raise DataError(f"{where}: not a JSON object; {_EXAMPLE}")
            yield where, columns.pick(record, where)


def _csv_records(lines: Iterator[str], path: Path, columns: Columns) -> Iterator[_Located]:
    """A record may span lines and is named by its first. The csv module itself bounds a field: 131072 characters."""
    header: list[str] = []
    reader, begin = csv.reader(lines, strict=True), 1
    try:
        for fields in reader:
            where, begin = f"{path}:{begin}", reader.line_num + 1
            if len(fields) < 2 and not "".join(fields).strip():
                continue  # a blank line
            if not header:
                header = fields
                columns.pick(dict.fromkeys(header), where)
                if twice := [name for name in vars(columns).values() if header.count(name) > 1]:
                    raise DataError(f"{where}: two columns are named {twice[0]!r}; rename one")
                continue
            if len(fields) != len(header):
                raise DataError(f"{where}: {len(fields)} fields where the header has {len(header)}; {_QUOTING}")
            record = columns.pick(dict(zip(header, fields, strict=True)), where)
            if "choices" in record:
                record["choices"] = record["choices"].split("|") if record["choices"] else None
            yield where, record
    except csv.Error as error:
        reason = str(error).partition(" - ")[0]  # what follows is advice for programmers
        raise DataError(f"{path}:{begin}: not CSV: {reason}; {_QUOTING}") from error


def _row(record: dict[str, Any], where: str, task: str, columns: Columns) -> Row:
    try:
        row = Row.model_validate(record)
    except ValidationError as error:
        raise DataError(f"{where}: {first_problem(error, vars(columns))}") from error
    return row if row.task else row.model_copy(update={"task": task[:200]})
