"""An output that grows by one record at a time and outlives a killed process. Knows nothing of what answers.

Until it is whole it is `OUT.partial`, one line a record in the order of the rows, with `OUT.partial.json` beside it:
the settings it was begun with. What was answered is known from the records themselves, each of which holds its row:
going on, they are compared with the rows, so an input that has grown is no matter and one that has changed is found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import lock_descriptor
from pydantic_core import from_json

from atv_local.batch import ADDED
from atv_local.data.atomic_files import replacing
from atv_local.data.file_errors import writing
from atv_local.data.request_rows import RowRequest
from atv_local.errors import UsageError


class ResumableOutput:
    """A context manager that holds the unfinished output, which no other process may write meanwhile.

    Args:
        output: the file to be.
        settings: JSON by name. What is there already must have been begun with the same.
        overwrite: drop what is there, and replace a finished output in the end.

    Raises:
        UsageError: the output exists, is begun with other settings, is being written by another process, or cannot be.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        if not output.name:
            raise UsageError(f"{output} is a folder; name a file to write the answers to")
        self.output, self._overwrite = output, overwrite
        self.path = output.with_name(f"{output.name}.partial")
        self._settings_path = output.with_name(f"{output.name}.partial.json")
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))

    def __enter__(self) -> ResumableOutput:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed and self.empty:  # nothing was answered, so there is nothing to go on from
            self._settings_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._file.close()

    @property
    def empty(self) -> bool:
        """Whether no record is there."""
        return os.fstat(self._file.fileno()).st_size == 0

    def skip(self, rows: Iterator[RowRequest]) -> tuple[int, int]:
        """Draw the rows that records are there for; what was being written when the process died is cut off.

        Returns:
            How many rows were answered, and how many before the last of them were not.

        Raises:
            UsageError: the rows are not those that were answered.
        """
        answered = drawn = 0
        for record in self._records():
            answered += 1
            for row in rows:
                drawn += 1
                if row.line >= record["line"]:
                    break
            else:
                row = None
            if row is None or row.line != record["line"] or _own(row.fields) != _own(record):
                raise UsageError(
                    f"line {record['line']} of the input is not the row that {self.path} has the answer to; "
                    "start again with `overwrite=True`, or choose another output"
                )
        return answered, drawn - answered

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; once this returns, killing the process does not lose it."""
        data = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with writing(self.path):
            while data:
                data = data[self._file.write(data) :]

    def finish(self) -> None:
        """Give the whole output its name."""
        with writing(self.output):
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(self.output)
            self._settings_path.unlink(missing_ok=True)

    def _begin(self) -> None:
        with writing(self.path):
            self._lock()
            if self._overwrite:
                self._file.truncate(0)
            if self.empty:
                self._refuse_existing()
                with replacing(self._settings_path) as path:
                    path.write_text(json.dumps(self._settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
                return
        try:
            begun = from_json(self._settings_path.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self._settings_path} cannot be read: {error}; start again with `overwrite=True`"
            ) from error
        for name in sorted({*begun, *self._settings}):
            before, now = begun.get(name), self._settings.get(name)
            if before != now:
                raise UsageError(
                    f"{self.path} was begun with {name} {before!r}, which now is {now!r}; "
                    "start again with `overwrite=True`, or choose another output"
                )

    def _lock(self) -> None:
        taken = UsageError(f"another process is writing {self.path}; wait for it, or choose another output")
        if not lock_descriptor(self._file.fileno(), blocking=False):
            raise taken
        if not self.path.exists() or not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
            raise taken  # and has just finished it
        if not self.path.is_file():
            raise UsageError(f"{self.path} is not a file; choose another output")

    def _refuse_existing(self) -> None:
        if not self.output.exists() or (self._overwrite and self.output.is_file()):
            return
        self.path.unlink()
        instead = "replace it with `overwrite=True`, or " if self.output.is_file() else ""
        raise UsageError(f"{self.output} exists; {instead}choose another output")

    def _records(self) -> Iterator[dict[str, Any]]:
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield self._record(number, line)
        with writing(self.path):
            self._file.truncate(whole)

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = from_json(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("line"), int):
            raise UsageError(f"{self.path}:{number} is no record of an answer; start again with `overwrite=True`")
        return record


def _own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what its record adds."""
    return {name: value for name, value in fields.items() if name not in ADDED}
