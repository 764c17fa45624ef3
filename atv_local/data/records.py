"""Files of rows as records: JSON Lines, CSV and lines of text, chosen by the file's name."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from atv_local.data.text_lines import MAX_LINE_BYTES, RowTooLongError, TextLines
from atv_local.errors import DataError

_EXAMPLE = 'a row is {"input": "..."}'
_QUOTING = "a field with commas, quotes or line breaks stands in double quotes"


@dataclass(frozen=True)
class Record:
    """One row as it stands in a file, or the `error` that says why it cannot be read."""

    line: int
    """Where it begins, from 1; with an error, the line to look at."""
    end: int
    """Bytes of the file up to its end."""
    fields: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    cells: bool = False
    """Whether all values are text, because the format has nothing else."""


CheckNames = Callable[[Collection[str]], None]
"""Called with the names of a file's columns where all rows have the same; raises DataError."""
RecordReader = Callable[[TextLines, CheckNames], Iterator[Record]]


def read_records(lines: TextLines, check_names: CheckNames = lambda _: None) -> Iterator[Record]:
    """The rows of a file in order, bad ones with their error. Blank lines are skipped.

    Raises:
        DataError: the header of a CSV file is not one, so that none of its rows can be read.
    """
    return _format_of(lines.path)(lines, check_names)


def _json_lines(lines: TextLines, _: CheckNames) -> Iterator[Record]:
    for line in lines:
        if problem := lines.take_problem():
            yield Record(lines.number, lines.end, error=problem[1])
        elif text := line.strip():
            yield _json_record(text, lines)


def _json_record(text: str, lines: TextLines) -> Record:
    try:
        fields = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error).replace(" line 1 ", " ")  # line 1 of the text, not of the file
        otherwise = "" if lines.path.suffix.lower() in FORMATS else "; CSV is named .csv and lines of text .txt"
        return Record(lines.number, lines.end, error=f"not JSON: {reason}; {_EXAMPLE}{otherwise}")
    if not isinstance(fields, dict):
        return Record(lines.number, lines.end, error=f"not a JSON object; {_EXAMPLE}")
    return Record(lines.number, lines.end, fields)


def _csv(lines: TextLines, check_names: CheckNames) -> Iterator[Record]:
    """A header, then rows that may span lines. The second column is `column 2` if it has no name.

    The csv module bounds a field: 131072 characters.
    """
    header: list[str] = []
    unnamed: set[str] = set()
    reader = csv.reader(lines, strict=True)
    while True:
        lines.begin_row()
        begin, error = lines.number + 1, ""
        try:
            fields = next(reader, None)
        except RowTooLongError:
            fields, error = [], f"the row is longer than {MAX_LINE_BYTES} bytes"
        except csv.Error as failure:
            reason = str(failure).partition(" - ")[0]  # what follows is advice for programmers
            fields, error = [], f"not CSV: {reason}; {_QUOTING}"
        if fields is None:
            return
        if error and lines.number > begin:
            error += f" (lines {begin} to {lines.number})"
        if problem := lines.take_problem():
            begin, error = problem
        elif not error and (header or len(fields) < 2) and not "".join(fields).strip():
            continue  # a blank line, or a row of empty cells
        if not header:
            header = _header(fields, error, lines.path, begin, check_names)
            unnamed = {name for name, given in zip(header, fields, strict=True) if not given.strip()}
        elif error or len(fields) != len(header):
            error = error or f"{len(fields)} fields where the header has {len(header)}; {_QUOTING}"
            yield Record(begin, lines.end, error=error)
        else:
            named = dict(zip(header, fields, strict=True))
            for name in unnamed:
                if not named[name]:  # of commas at the ends of lines, for which no column is meant
                    del named[name]
            yield Record(begin, lines.end, named, cells=True)


def _header(names: list[str], error: str, path: Path, line: int, check_names: CheckNames) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1 and name.strip()]
    taken = {*names}
    try:
        if error or twice:
            raise DataError(error or f"two columns are named {twice[0]!r}; rename one")
        names = [name if name.strip() else _new_name(f"column {place}", taken) for place, name in enumerate(names, 1)]
        check_names(names)
    except DataError as problem:
        raise DataError(f"{path}:{line}: {problem}") from problem
    return names


def _new_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _text_lines(lines: TextLines, _: CheckNames) -> Iterator[Record]:
    """Each line is an input, without the space around it."""
    for line in lines:
        if problem := lines.take_problem():
            yield Record(lines.number, lines.end, error=problem[1])
        elif text := line.strip():
            yield Record(lines.number, lines.end, {"input": text})


FORMATS: dict[str, RecordReader] = {".csv": _csv, ".jsonl": _json_lines, ".txt": _text_lines}
"""By the end of a file's name."""


def _format_of(path: Path) -> RecordReader:
    return FORMATS.get(path.suffix.lower(), _json_lines)
