"""JSON as records: one object on each line, or one document with a list of objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import from_json

from atv_local.data.columns import find_columns
from atv_local.data.record import Record
from atv_local.data.text_lines import TextLines
from atv_local.text import some_of

_EXAMPLE = 'a row is {"input": "..."}'
_ON_A_LINE = f"{_EXAMPLE} on one line"
JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines", ".json")
_LISTS = ("data", "rows", "train", "validation", "valid", "test", "examples", "samples", "records", "items")
"""What documents call their rows."""
_OTHER_FORMATS = "CSV is named .csv and lines of text .txt"
_MAX_DOCUMENT_BYTES = 256 << 20
"""Of JSON that is read at once, as it is not one object on each line. In memory it takes some times that."""


class WrittenNumber(float):
    """A number that remembers how it was written: `2.50` is not `2.5` where it is a label."""

    text: str

    def __new__(cls, text: str) -> WrittenNumber:
        """The number that a text of JSON stands for."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[WrittenNumber], tuple[str]]:
        return WrittenNumber, (self.text,)


class _RepeatedKeys(dict[str, Any]):
    """An object that has a key twice, or an object in it has, so that one of the values would be lost."""

    def __init__(self, pairs: list[tuple[str, Any]], repeated: str) -> None:
        super().__init__(pairs)
        self.repeated = repeated


def json_records(lines: TextLines, on_note: Callable[[str], None]) -> Iterator[Record]:
    """An object on each line, or one document: a list of objects, or an object with one, such as `data` or `train`.

    In a document the `line` of a record is its number in the list, and other lists and objects of it are noted.
    """
    first = lines.peek()
    if first.startswith("[") or (lines.suffix == ".json" and not _is_row(first)):
        yield from _document(lines, on_note)
        return
    for line in lines:
        if problem := lines.take_problem():
            yield Record(lines.number, lines.end, error=problem[1])
        elif text := line.strip():
            try:
                yield _record(_parsed(text), lines.number, lines.end)
            except ValueError as error:
                reason = str(error).replace(" line 1 ", " ")  # line 1 of the text, not of the file
                other = "" if lines.suffix in JSON_SUFFIXES else f"; {_OTHER_FORMATS}"
                yield Record(lines.number, lines.end, error=f"not JSON: {reason}; {_ON_A_LINE}{other}")


def _is_row(line: str) -> bool:
    try:
        value = from_json(line)
    except ValueError:
        return False
    try:
        return isinstance(value, dict) and not _name_of_rows(value)
    except ValueError:
        return False


def _document(lines: TextLines, on_note: Callable[[str], None]) -> Iterator[Record]:
    try:
        value = _parsed(lines.read_all(_MAX_DOCUMENT_BYTES))
    except ValueError as error:
        yield Record(1, lines.end, error=f"not JSON: {error}; {_EXAMPLE}")
        return
    try:
        name = _name_of_rows(value) if isinstance(value, dict) else ""
    except ValueError as error:
        yield Record(1, lines.end, error=str(error))
        return
    if name:
        others = [repr(key) for key, held in value.items() if key != name and held and isinstance(held, list | dict)]
        if others:
            on_note(f"{lines.path}: not read beside {name!r}: {some_of(others)}")
        value = value[name]
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        yield _record(row, number, lines.end)


def _name_of_rows(value: dict[str, Any]) -> str:
    """What an object calls its list of rows; empty if it is a row itself.

    Raises:
        ValueError: it has several lists of rows.
    """
    lists = [name for name in _LISTS if _is_list_of_objects(value.get(name))]
    if not lists or "input" in find_columns(value, {}):
        return ""
    lists += [name for name, held in value.items() if name not in lists and _is_list_of_inputs(held)]
    if len(lists) > 1:
        raise ValueError(f"several lists of rows, {some_of(lists)}; save the one you mean as a file of its own")
    return lists[0]


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_list_of_inputs(value: Any) -> bool:
    return _is_list_of_objects(value) and "input" in find_columns(value[0], {})


def _record(value: Any, line: int, end: int) -> Record:
    if not isinstance(value, dict):
        return Record(line, end, error=f"not a JSON object; {_EXAMPLE}")
    if isinstance(value, _RepeatedKeys):
        return Record(line, end, error=f"the key {value.repeated!r} is there twice; leave one out")
    return Record(line, end, value)


def _parsed(text: str) -> Any:
    """As pydantic-core reads it, which is stricter, with numbers as they are written.

    Raises:
        ValueError: not JSON.
    """
    from_json(text, allow_inf_nan=False)
    return _DECODER.decode(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        return _RepeatedKeys(pairs, next(name for name in names if names.count(name) > 1))
    for inner in value.values():
        for part in inner if isinstance(inner, list) else [inner]:
            if isinstance(part, _RepeatedKeys):
                return _RepeatedKeys(pairs, part.repeated)
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=WrittenNumber)
