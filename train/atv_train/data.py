"""Task rows from JSON Lines. Knows nothing of tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atv_local.errors import DataError

MAX_LINE_BYTES = 1 << 20


class Row(BaseModel):
    """One training row: what the user asks and what the target shall answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    task: str = Field(default="", max_length=200)


@dataclass(frozen=True)
class RowFile:
    """The rows of one file and the hash of the bytes they were read from."""

    name: str
    rows: list[Row]
    sha256: str


def read_rows(path: Path) -> RowFile:
    """Rows of a file in order; a row without `task` belongs to the task named after its file.

    The file is read once, so it may be a pipe, and the hash is that of the rows trained on.

    Raises:
        DataError: an unreadable file, a bad line (named by file and number), or no rows at all.
    """
    rows: list[Row] = []
    digest, number = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                digest.update(line)
                if line.strip():
                    rows.append(_row(line, f"{path}:{number}", task=path.stem[:200]))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    return RowFile(path.name, rows, digest.hexdigest())


def _row(line: bytes, where: str, task: str) -> Row:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"{where}: the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        row = Row.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "line"
        raise DataError(f'{where}: {field}: {first["msg"]}; a row is {{"input": "...", "output": "..."}}') from error
    return row if row.task else row.model_copy(update={"task": task})
