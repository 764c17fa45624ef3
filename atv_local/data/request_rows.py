"""Rows to be answered, from a file of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict

from atv_local.data.columns import DEFAULT_COLUMNS, Columns
from atv_local.data.record import Record
from atv_local.data.records import read_records
from atv_local.data.row_parser import OnNote, RowParser
from atv_local.data.row_values import ChoiceTexts, History, NonBlank, TextOrBlank, TokenLimit
from atv_local.data.text_lines import TextLines
from atv_local.errors import DataError


@dataclass(frozen=True)
class RowRequest:
    """One row: what to answer, or the `error` that says why that cannot be done."""

    line: int
    """Its number in the file, from 1."""
    end: int
    """Bytes of the file up to its end."""
    fields: dict[str, Any] = field(default_factory=dict)
    """All columns of the row, by the names in the file."""
    query: str = ""
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    """Earlier questions with their answers."""
    max_tokens: int | None = None
    """-1 means no limit."""
    task: str | None = None
    instruction: str | None = None
    choices: tuple[str, ...] = ()
    """Those that the instruction allows."""
    error: str = ""


class _RequestRow(BaseModel):
    """The parts of a row; its other columns are the user's."""

    model_config = ConfigDict(extra="ignore", strict=True)

    input: NonBlank
    system: NonBlank | None = None
    history: History = ()
    max_tokens: TokenLimit | None = None
    task: TextOrBlank = ""
    choices: ChoiceTexts | None = None
    instruction: NonBlank | None = None


def read_requests(
    file: BinaryIO, path: Path, columns: Columns = DEFAULT_COLUMNS, on_note: OnNote = lambda _: None
) -> Iterator[RowRequest]:
    """The rows of an open file in order, bad ones with their error. Blank lines are skipped.

    Memory is bounded by the longest row that is read, `MAX_LINE_BYTES`. A pipe will do.

    Args:
        file: JSON, CSV or lines of text, compressed or not.
        path: its name, which says which of these it is; JSON if it does not.
        columns: what the file calls the parts input, system, history and max_tokens.
        on_note: called with a sentence for what is passed over or read in another way than its name says.

    Raises:
        UsageError: at once, for a part of `columns` that is none of these.
        DataError: for a first row without one of `columns`, at once; with the first row, for a CSV file without input.
    """
    parser = RowParser(_RequestRow, columns, path, on_note)
    records = read_records(TextLines(file, path), parser.check_names, on_note)
    if columns:
        records = _checked(records, parser, columns, path)
    return (_request(record, parser) for record in records)


def _checked(
    records: Iterator[Record], parser: RowParser[_RequestRow], columns: Columns, path: Path
) -> Iterator[Record]:
    first = list(islice(records, 1))
    for record in first:
        if not record.error and not record.fields.keys() >= set(columns.values()):
            try:
                parser.check_names(record.fields)
            except DataError as error:
                raise DataError(f"{path}:{record.line}: {error}") from error
    return chain(first, records)


def _request(record: Record, parser: RowParser[_RequestRow]) -> RowRequest:
    try:
        row = parser.row(record)
        json.dumps(record.fields, allow_nan=False)  # they are written beside the answer
    except DataError as error:
        return RowRequest(record.line, record.end, error=str(error))
    except ValueError as error:  # DataError is one too
        return RowRequest(record.line, record.end, error=f"not JSON: {error}")
    return RowRequest(
        record.line,
        record.end,
        record.fields,
        row.input,
        row.system,
        row.history,
        row.max_tokens,
        row.task,
        row.instruction,
        row.choices or (),
    )
