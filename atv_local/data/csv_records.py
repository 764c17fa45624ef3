"""CSV as spreadsheets and programs write it, as records."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from atv_local.data.columns import find_columns
from atv_local.data.record import Record
from atv_local.data.text_lines import MAX_LINE_BYTES, RowTooLongError, TextLines
from atv_local.errors import DataError
from atv_local.text import some_of

CheckNames = Callable[[Collection[str]], None]
"""Called with the names of a file's columns where all rows have the same; raises DataError."""
CSV_SUFFIXES = (".csv", ".tsv", ".tab")
_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n')
"""With this Excel says what stands between the cells."""
_LINE_ENDS = "if its lines end with a carriage return alone, save it with line feeds"
_QUOTING = "a field with commas, quotes or line breaks stands in double quotes, and a quote in it is doubled"
_LONG_CELL = "write such rows as JSON Lines, or shorten it"


def csv_records(lines: TextLines, check_names: CheckNames, on_note: Callable[[str], None]) -> Iterator[Record]:
    """A header, then rows that may span lines. The second column is `column 2` if it has no name.

    Between the cells stands what the line `sep=;` says, or else a tab in .tsv files and a comma in others, unless the
    names of the header are right only with another of `;`, tabs, `|` and commas. The header again, as in files that
    were joined, is passed over with a note, also by other names of the same parts.

    The csv module bounds a field: 131072 characters.
    """
    first = lines.peek()
    if marked := _SEPARATOR_LINE.fullmatch(first):
        next(lines)
        separator, first = marked[1], lines.peek()
    else:
        separator = _separator(first, lines.suffix, check_names)
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
        elif _keys(fields) == _keys(given):
            on_note(f"{lines.path}:{begin}: the header again, which is not a row")
        elif (parts := _places(fields)) and parts == _places(given):
            on_note(f"{lines.path}:{begin}: a header by other names, {some_of(fields)}, which is not a row")
        elif len(given) > 1 and sorted(_keys(fields)) == sorted(_keys(given)):
            raise DataError(
                f"{lines.path}:{begin}: the header again, in another order; divide the file before this line"
            )
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
            fields, error = [], f"not CSV: {_reason(str(failure))}"
        if fields is None:
            return
        if separator == "\t" and any("\t" in cell and "\n" in cell for cell in fields):  # commas do stand in texts
            fields, error = [], f"a cell in double quotes goes on over tabs and line ends; {_QUOTING}"
        if error and lines.number > begin:
            error += f" (lines {begin} to {lines.number})"
        if problem := lines.take_problem():
            begin, error = problem
        elif not error and (some or len(fields) < 2) and not "".join(fields).strip():
            continue
        some = True
        yield begin, fields, error


def _reason(failure: str) -> str:
    """What the csv module says, in words about the file, and what to do."""
    if failure.startswith("new-line"):
        return f"{failure.partition(' - ')[0]}; {_LINE_ENDS}"
    if failure.startswith("field larger"):
        return f"a cell has more than {csv.field_size_limit()} characters; {_LONG_CELL}"
    if "expected after" in failure:
        return f"text after a closing double quote; {_QUOTING}"
    return f"{failure}; {_QUOTING}"


def _separator(header: str, suffix: str, check_names: CheckNames) -> str:
    outside = re.sub(r'"[^"]*"', "", header)
    usual = "," if suffix == ".csv" else "\t"
    there = sorted(
        filter(outside.count, _SEPARATORS), key=lambda separator: (separator != usual, -outside.count(separator))
    )
    for separator in there:
        with suppress(DataError, csv.Error):
            check_names([name.strip() for name in next(csv.reader([header.strip("\r\n")], delimiter=separator))])
            return separator
    return there[0] if there else usual


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


def _keys(names: Collection[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _places(names: list[str]) -> list[int]:
    """The columns of the input and of the output; empty if not both are there."""
    found = find_columns(names, {})
    return [names.index(found[part]) for part in ("input", "output")] if {"input", "output"} <= found.keys() else []


def _new_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
