"""Rows of JSON Lines to be answered, drawn one by one from a file of any size. Knows nothing of models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from atv_local.data.rows import MAX_LINE_BYTES, Text
from atv_local.errors import first_problem


@dataclass(frozen=True)
class RowRequest:
    """One row: what is asked, or the `error` that says why nothing can be."""

    line: int
    """Its number in the file, from 1."""
    end: int
    """Bytes of the file up to its end."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The row as it stands there."""
    query: str = ""
    system: str | None = None
    max_tokens: int | None = None
    error: str = ""


class _Row(BaseModel):
    """What of a row is read; the rest is the user's."""

    model_config = ConfigDict(extra="ignore", strict=True)

    input: Text
    system: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


def read(file: BinaryIO) -> Iterator[RowRequest]:
    """The rows of a file in order, bad ones with their error. Blank lines are passed over.

    Memory is bounded by the longest line that is read whole, `MAX_LINE_BYTES`. A pipe will do.
    """
    line = end = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        line, end = line + 1, end + len(data)
        if len(data) > MAX_LINE_BYTES:
            while data and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_BYTES)
                end += len(data)
            yield RowRequest(line, end, error=f"the line is longer than {MAX_LINE_BYTES} bytes")
        elif data.strip():
            yield _asked(line, end, data)


def _asked(line: int, end: int, data: bytes) -> RowRequest:
    try:
        text = data.decode("utf-8-sig" if line == 1 else "utf-8")
        fields = from_json(text.strip())
        if not isinstance(fields, dict):
            return RowRequest(line, end, error='not a JSON object; a row is {"input": "..."}')
        row = _Row.model_validate(fields)
        json.dumps(fields, allow_nan=False)
    except UnicodeDecodeError as error:
        return RowRequest(line, end, error=f"not UTF-8 ({error.reason}); save the file as UTF-8")
    except ValidationError as error:
        return RowRequest(line, end, error=first_problem(error))
    except ValueError as error:
        reason = str(error).replace(" line 1 ", " ")  # line 1 of the text, not of the file
        return RowRequest(line, end, error=f'not JSON: {reason}; a row is {{"input": "..."}}')
    return RowRequest(line, end, fields, row.input, row.system, row.max_tokens)
