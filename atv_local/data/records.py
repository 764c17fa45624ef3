"""Files of rows as records: JSON, CSV and lines of text, chosen by the file's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from json import JSONDecoder
from pathlib import Path

from atv_local.data.columns import find_columns
from atv_local.data.csv_records import CSV_SUFFIXES, CheckNames, csv_records
from atv_local.data.json_records import JSON_SUFFIXES, json_records
from atv_local.data.packed_files import without_compression
from atv_local.data.record import Record
from atv_local.data.text_lines import TextLines
from atv_local.errors import DataError


def read_records(
    lines: TextLines, check_names: CheckNames = lambda _: None, on_note: Callable[[str], None] = lambda _: None
) -> Iterator[Record]:
    """The rows of a file in order, bad ones with their error. Blank lines are skipped.

    Args:
        lines: of the file.
        check_names: called with the header of a CSV file.
        on_note: called with a sentence for what is passed over.

    Raises:
        DataError: none of the rows can be read, for example because the header of a CSV file is not one.
    """
    if lines.suffix in CSV_SUFFIXES:
        return csv_records(lines, check_names, on_note)
    return _text_records(lines) if lines.suffix == ".txt" else json_records(lines, on_note)


def has_rows(path: Path) -> bool:
    """Whether a file in a folder is one of rows, by its name."""
    return without_compression(path).suffix.lower() in (*CSV_SUFFIXES, *JSON_SUFFIXES)


def _text_records(lines: TextLines) -> Iterator[Record]:
    """Each line is an input, without the space around it. A file whose first line is that of another format is refused.

    Raises:
        DataError: the first line is a row of JSON, or a header.
    """
    first = lines.peek().strip()
    if kind := _kind_of_rows(first):
        raise _refusal(lines, kind)
    header = "input" in find_columns([first], {})  # unless it is the only line
    for line in lines:
        if problem := lines.take_problem():
            yield Record(lines.number, lines.end, error=problem[1])
        elif text := line.strip():
            if header and lines.peek():
                raise _refusal(lines, "a .csv file")
            header = False
            yield Record(lines.number, lines.end, {"input": text})


def _refusal(lines: TextLines, kind: str) -> DataError:
    return DataError(f"{lines.path}: its first line is that of {kind}, and lines of .txt are queries; rename it")


def _kind_of_rows(line: str) -> str | None:
    """The kind of file that begins with this line, if its parts are named in it."""
    if line in ("{", "[", "[{"):
        return "a .json file"
    if line.startswith(("{", "[{")):
        with suppress(ValueError, RecursionError):
            value, _ = JSONDecoder().raw_decode(line.removeprefix("["))  # of a list, its first row
            kind = "a .json file" if line.startswith("[") else "a .jsonl file"
            return kind if isinstance(value, dict) and "input" in find_columns(value, {}) else None
    for separator, suffix in ((",", ".csv"), (";", ".csv"), ("\t", ".tsv")):
        names = [name.strip(" \"'") for name in line.split(separator)]
        needed = {"input", "output"} if " " in line or len(names) == 1 else {"input"}
        if find_columns(names, {}).keys() >= needed:
            return f"a {suffix} file"
    return None
