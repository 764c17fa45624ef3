"""CSV as spreadsheets and programs write it, as records."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from atv_local.data.record import Record
from atv_local.data.text_lines import MAX_LINE_BYTES, RowTooLongError, TextLines
from atv_local.errors import DataError

CheckNames = Callable[[Collection[str]], None]
"""Called with the names of a file's columns where all rows have the same; raises DataError."""
CSV_SUFFIXES = (".csv", ".tsv", ".tab")
_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n')
"""With this Excel says what stands between the cells."""
_LINE_ENDS = "if its lines end with a carriage return alone, save it with line feeds"
_QUOTING = "a field with commas, quotes or line breaks stands in double quotes"


def csv_records(lines: TextLines, check_names: CheckNames, on_note: Callable[[str], None]) -> Iterator[Record]:
    """A header, then rows that may span lines. The second column is `column 2` if it has no name.

    Between the cells stands what the line `sep=;` says, a tab in .tsv files, and in others a comma if the header has
    one, or else what it has most of `;`, tabs and `|`. The header again, as in files that were joined, is passed over
    with a note.

    The csv module bounds a field: 131072 characters.
    """
    first = lines.peek()
    if marked := _SEPARATOR_LINE.fullmatch(first):
        next(lines)
        separator, first = marked[1], lines.peek()
    else:
        separator = _separator(first, lines.suffix)
    spaced = first.count(separator) == first.count(f"{separator} ") > 0
    rows = _rows(lines, separator, spaced=spaced)
    begin, fields, error = next(rows, (0, [], ""))
    given = [name.strip() for name in fields]
    header = _header(given, error, lines.path, begin, check_names) if begin else []
    for begin, cells, error in rows:
        blank = not "".join(cells[len(header) :]).strip()  # of separators at the ends of lines
        fields = cells[: len(header)] if blank else cells
        if error:
            yield Record(begin, lines.end, error=error)
        elif [field.strip() for field in fields] == given:
            on_note(f"{lines.path}:{begin}: the header again, which is not a row")
        elif len(fields) != len(header):
            problem = f"{len(fields)} fields where the header has {len(header)}; {_QUOTING}"
            yield Record(begin, lines.end, error=problem)
        else:
            columns = zip(header, fields, given, strict=True)
            named = {name: cell for name, cell, own in columns if own or cell}  # a column without both is not meant
            yield Record(begin, lines.end, named, cells=True)


def _rows(lines: TextLines, separator: str, *, spaced: bool) -> Iterator[tuple[int, list[str], str]]:
    """The line where each row begins, its cells, and the error instead; those without text are skipped."""
    reader = csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=spaced)
    some = False
    while True:
        lines.begin_row()
        begin, error = lines.number + 1, ""
        try:
            fields = next(reader, None)
        except RowTooLongError:
            fields, error = [], f"the row is longer than {MAX_LINE_BYTES} bytes"
        except csv.Error as failure:
            reason = str(failure).partition(" - ")[0]  # what follows is advice for programmers
            remedy = _LINE_ENDS if reason.startswith("new-line") else _QUOTING
            fields, error = [], f"not CSV: {reason}; {remedy}"
        if fields is None:
            return
        if error and lines.number > begin:
            error += f" (lines {begin} to {lines.number})"
        if problem := lines.take_problem():
            begin, error = problem
        elif not error and (some or len(fields) < 2) and not "".join(fields).strip():
            continue
        some = True
        yield begin, fields, error


def _separator(header: str, suffix: str) -> str:
    if suffix != ".csv":
        return "\t"
    outside = re.sub(r'"[^"]*"', "", header)
    return "," if "," in outside else max(_SEPARATORS, key=outside.count)


def _header(names: list[str], error: str, path: Path, line: int, check_names: CheckNames) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    taken = {*names}
    try:
        if error or twice:
            raise DataError(error or f"two columns are named {twice[0]!r}; rename one")
        names = [name or _new_name(f"column {place}", taken) for place, name in enumerate(names, 1)]
        check_names(names)
    except DataError as problem:
        raise DataError(f"{path}:{line}: {problem}") from problem
    return names


def _new_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
