"""An output file that grows by one record at a time and can be resumed after the process was killed.

It has one line of JSON per record. `NAME.json` beside it has the settings of the first run. Until it is complete, it is
named `OUT.partial`, unless it grows in place. A CSV file is written from it in the end: only then are all of its
columns known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic_core import from_json

from atv_local.data.atomic_files import replacing
from atv_local.data.exchange import sync_entry
from atv_local.data.file_errors import reading, writing
from atv_local.data.record_table import read_header, write_table
from atv_local.errors import DataError, UsageError

_BLOCK = 1 << 16
_LONGEST = 1 << 24  # bytes of a first line that is looked at
_OVERWRITE = "(overwrite)"  # among the settings of what was begun to replace a finished output
_ON_WINDOWS = os.name == "nt"  # which neither renames nor removes an open file


class ResumableOutput:
    """A context manager that holds the output, which no other process can write meanwhile.

    What a process that died had written of its last record is cut off. Without any record, nothing is left.

    Args:
        output: the file to be.
        settings: JSON by name. What is there already must have been begun with the same.
        overwrite: replace a finished output in the end, if its records have `fields`. What was begun is dropped, unless
            it was begun in this way, with the same settings.
        fields: what every record has, to recognise an output by.
        in_place: the file has its name from the beginning, and can be added to when it is complete.
        as_row: makes the row of a CSV file from a record. With it, `output` is such a file, with columns `fields`.

    Raises:
        UsageError: the output exists, is begun with other settings, is being written by another process, or cannot be.
    """

    def __init__(
        self,
        output: Path,
        settings: Mapping[str, Any],
        *,
        overwrite: bool = False,
        fields: Collection[str] = (),
        in_place: bool = False,
        as_row: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        if not output.name:
            raise UsageError(f"{output} is a folder; name a file to write the answers to")
        with writing(output):
            output = output.resolve() if output.is_symlink() and output.is_file() else output
        self.path = output if in_place else output.with_name(f"{output.name}.partial")
        begin_again = f"remove {self.path}" if overwrite else "pass `overwrite=True`"
        self.remedy = ("" if in_place else f"{begin_again} to begin again, or ") + "choose another output"
        """What to do with an output that cannot be resumed, to end a message with."""
        self._output, self._overwrite, self._fields, self._as_row = output, overwrite, fields, as_row
        self._settings_path = self.path.with_name(f"{self.path.name}.json")
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
        if not self._file.closed and self._size == 0:
            self._settings_path.unlink(missing_ok=True)
            self._remove()
        self._file.close()

    def records(self) -> Iterator[dict[str, Any]]:
        """The records that are there, in the order they were added.

        Raises:
            UsageError: a line that is not a record.
        """
        with open(self._file.fileno(), "rb", closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                try:
                    record = from_json(line)
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    raise UsageError(f"{self.path}:{number} is not a record of an answer; {self.remedy}")
                yield record

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; once this returns, killing the process does not lose it."""
        data = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with writing(self.path):
            while data:
                data = data[self._file.write(data) :]

    def finish(self) -> None:
        """Give the whole output its name, or write the CSV file.

        Raises:
            UsageError: it cannot be written, or the records have more columns than a CSV file can.
        """
        if as_row := self._as_row:
            self._write_table(as_row)
            return
        with writing(self._output):
            os.fsync(self._file.fileno())
            if _ON_WINDOWS:
                self._file.close()
            self.path.replace(self._output)
            self._file.close()
            sync_entry(self._output)
            self._settings_path.unlink(missing_ok=True)

    def _write_table(self, as_row: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        try:
            with replacing(self._output) as path:
                write_table(path, lambda: map(as_row, self.records()), self._fields)
        except DataError as error:
            raise UsageError(
                f"cannot write {self._output}: {error}; {self.path} has the answers as JSON Lines"
            ) from error
        with writing(self.path):
            self._remove()
            self._file.close()
            self._settings_path.unlink(missing_ok=True)

    @property
    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _begin(self) -> None:
        self._lock()
        with writing(self.path):
            if self._size and not self._settings_path.exists():
                raise UsageError(
                    f"{self.path} exists without the {self._settings_path.name} that belongs to it; "
                    "remove it, or choose another output"
                )
            self._refuse_existing()
            whole = self._whole()
            if whole and (not self._overwrite or self._begun_alike()):
                self._check_settings()
                self._file.truncate(whole)
                return
            self._file.truncate(0)
            settings = self._settings | ({_OVERWRITE: True} if self._overwrite else {})
            with replacing(self._settings_path) as path:
                path.write_text(json.dumps(settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def _lock(self) -> None:
        from filelock import lock_descriptor  # slow to import, and an answer writes nothing

        with writing(self.path):
            locked = lock_descriptor(self._file.fileno(), blocking=False)
            current = self.path.exists() and os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        if not locked or not current:  # the other has just finished or dropped it
            raise UsageError(f"another process is writing {self.path}; wait for it, or choose another output")
        if not self.path.is_file():
            raise UsageError(f"{self.path} is not a file; choose another output")

    def _whole(self) -> int:
        """Bytes up to the end of the last whole line."""
        end = self._size
        while end:
            start = max(0, end - _BLOCK)
            self._file.seek(start)
            if newline := self._file.read(end - start).rfind(b"\n") + 1:
                return start + newline
            end = start
        return 0

    def _refuse_existing(self) -> None:
        if self._output == self.path or not self._output.exists():
            return
        columns = read_header if self._as_row else _fields_of_first_record
        ours = self._output.is_file() and (
            self._output.stat().st_size == 0 or {*columns(self._output)} >= {*self._fields}
        )
        if ours and self._overwrite:
            return
        if self._size == 0:
            self._remove()
        kind = "" if ours else " and has no answers of this program"
        raise UsageError(f"{self._output} exists{kind}; {self.remedy if ours else 'choose another output'}")

    def _begun(self) -> dict[str, Any]:
        try:
            with reading(self._settings_path, UsageError):
                return dict(from_json(self._settings_path.read_bytes()))
        except (UsageError, ValueError, TypeError) as error:
            raise UsageError(f"{self._settings_path} cannot be used: {error}; {self.remedy}") from error

    def _begun_alike(self) -> bool:
        try:
            return self._begun() == self._settings | {_OVERWRITE: True}
        except UsageError:
            return False

    def _check_settings(self) -> None:
        begun = self._begun()
        begun.pop(_OVERWRITE, None)
        for name in sorted({*begun, *self._settings}):
            before, now = begun.get(name), self._settings.get(name)
            if before != now:
                raise UsageError(f"{self.path} was begun with `{name}` {before!r}, which is {now!r} now; {self.remedy}")

    def _remove(self) -> None:
        if _ON_WINDOWS:
            self._file.close()
        self.path.unlink()


def _fields_of_first_record(path: Path) -> Collection[str]:
    """The names in a first line that is a record, otherwise none."""
    with path.open("rb") as file:
        line = file.readline(_LONGEST)
    try:
        record = from_json(line)
    except ValueError:
        return ()
    return record if isinstance(record, dict) else ()
