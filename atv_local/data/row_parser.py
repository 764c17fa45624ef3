"""Rows of one model from the records of a file, in whatever shape the file has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from atv_local.data.columns import CONVERSATIONS, PARTS, Columns, find_columns, names_for
from atv_local.data.conversations import conversation_parts, is_conversation, unread_keys
from atv_local.data.record import Record
from atv_local.data.row_values import from_json_list
from atv_local.errors import DataError, UsageError, first_problem
from atv_local.text import some_of

OnNote = Callable[[str], None]
"""Called with a sentence, once for each thing that the user should know of a file."""
_Model = TypeVar("_Model", bound=BaseModel)
_MAX_NOTED = 100
"""Columns that are named as not read; rows of JSON could each have others."""
_TASK_PARTS = frozenset({"task", "choices", "references"})


class RowParser(Generic[_Model]):
    """Makes rows of one model from the records of a file.

    `messages` and the like become the parts of a row that they have. An `instruction` without an input is the input.
    For a model without outputs it is put before the input, as in Alpaca's rows, unless the row has a `task`, `choices`
    or `references` too or `columns` names it: then it says what the task asks.

    Args:
        model: its fields are the parts of a row.
        columns: a part that is named here must be in the file, also if the model does without.
        path: the file, for notes.
        on_note: called for columns by other names, and for those that are not read.

    Raises:
        UsageError: `columns` names a part that the model does not have.
    """

    def __init__(
        self, model: type[_Model], columns: Columns, path: Path = Path(), on_note: OnNote = lambda _: None
    ) -> None:
        parts = model.model_fields
        if unknown := [part for part in columns if part not in parts]:
            raise UsageError(f"`columns` names {unknown[0]!r}; the parts of a row are {', '.join(parts)} here")
        self._model, self._parts, self._columns = model, frozenset(parts), columns
        self._required = [part for part in parts if parts[part].is_required()]
        self._find = lru_cache(maxsize=256)(lambda names: find_columns(names, columns))
        self._path, self.on_note, self._noted = path, on_note, set[str]()
        self._own = set[str]()  # parts that a row of this file has under their own names
        self._explained: set[tuple[str, ...]] = set()  # names of columns about which there is nothing more to say

    def check_names(self, names: Collection[str]) -> None:
        """Raise DataError if a required part is not among the names of a file's columns."""
        found = self._find(tuple(names))
        named = [part for part, name in self._columns.items() if name]
        for part in dict.fromkeys([*self._required, *named]):
            if part not in found and not (part == "output" and _is_of_messages(found.get("input", ""))):
                listed = ", ".join(map(repr, names))[:200] or "none"
                missing = self._columns.get(part, part)
                several = names_for(part, names) if part not in self._columns else []
                could_be = f", of which {' and '.join(map(repr, several))} could be it" if len(several) > 1 else ""
                problem = f"no column {missing!r}, found {listed}{could_be}"
                raise DataError(f"{problem}; name yours with `columns={{{part!r}: ...}}`")

    def row(self, record: Record) -> _Model:
        """The row of a record.

        Raises:
            DataError: the record has an error, or a part that is missing or not valid. File and line are not named.
        """
        if record.error:
            raise DataError(record.error)
        names = tuple(record.fields)
        found = self._found(names)
        history = record.fields.get(found.get("history", ""))
        if isinstance(from_json_list(history), str):  # a text of that name, which is something else
            found = {part: name for part, name in found.items() if part != "history"}
        values = {part: record.fields[name] for part, name in found.items()}
        values = {part: value for part, value in values.items() if part in self._required or not _is_absent(value)}
        with_output = _is_of_messages(found.get("input", ""))
        unsaid = self._own.intersection(self._required).difference(found, ["output"] if with_output else [])
        if names not in self._explained and not unsaid:
            self._explain(record.fields, found)
        if found.get("input") not in (None, self._columns.get("input")) and _is_of_messages(found["input"]):
            values["input"] = from_json_list(values.get("input"))  # as cells of CSV files have it
        if conversation := "input" in values and is_conversation(values["input"]):
            values = self._with_conversation(values, found)
            if "history" in values and "output" in self._required:
                about = f"only the last answer in {found['input']!r} is an output; earlier turns are before its query"
                self._note("history", about)
        elif _is_of_messages(found.get("input", "")) and "input" not in self._columns:
            raise DataError(
                f"{found['input']}: it must be a list of messages; if it is a text, `columns={{'input': ...}}`"
            )
        values = self._with_instruction(values, found)
        if not conversation:
            self.check_names(record.fields)
        elif "output" in self._required and "output" not in values:
            raise DataError(f"{found['input']}: the last message is not the assistant's")
        values = {part: value for part, value in values.items() if part in self._parts}
        if missing := [part for part in self._required if part in self._own and part not in values]:
            raise DataError(f"no column {missing[0]!r}, which other rows of the file have")
        try:
            return self._model.model_validate(values, strict=False if record.cells else None)
        except ValidationError as error:
            raise DataError(first_problem(error, found) + self._way_out(error)) from error

    def _found(self, names: tuple[str, ...]) -> Mapping[str, str]:
        """The column of each part. A file whose rows have a part by its own name has it by no other in later rows."""
        found = self._find(names)
        self._own |= {part for part, name in found.items() if name.strip().casefold() == part}
        return {part: name for part, name in found.items() if part not in self._own or self._names(part, name)}

    def _names(self, part: str, name: str) -> bool:
        """Whether a name can be meant for one part only, whatever the other rows have."""
        key = name.strip().casefold()
        return part in self._columns or key in (part, "instruction", *CONVERSATIONS)

    def _with_conversation(self, values: dict[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        messages, name = values["input"], found["input"]
        if is_conversation(values.get("output")):
            messages = [*messages, *values["output"]]
            values = {part: value for part, value in values.items() if part != "output"}
        try:
            parts = conversation_parts(messages)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        if "output" in parts and "output" in values:
            raise DataError(f"{name}: it ends with an answer, and there is an output too; leave one out")
        if both := [part for part in parts if part in values and part in self._parts and part != "input"]:
            raise DataError(f"{name}: it has its own {both[0]}, and there is {found[both[0]]!r} too; leave one out")
        for key in unread_keys(messages):
            self._note(f"{name}.{key}", f"not read in the messages of {name!r}: {key!r}")
        return values | parts

    def _with_instruction(self, values: dict[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        instruction, text = values.get("instruction"), values.get("input") or ""
        if not isinstance(instruction, str) or not isinstance(text, str) or "instruction" in self._columns:
            return values
        text = text if text.strip() else ""
        if text and ("output" in self._parts or not _TASK_PARTS.isdisjoint(values)):
            return values
        name = found["instruction"]
        self._note(name, f"{name!r} is put before the input, as in Alpaca's rows")
        values = {part: value for part, value in values.items() if part != "instruction"}
        return values | {"input": f"{instruction}\n\n{text}" if text else instruction}

    def _explain(self, fields: Mapping[str, Any], found: Mapping[str, str]) -> None:
        """Name the columns that are read in another way than their name says, and those with text that are not read."""
        if len(self._noted) > _MAX_NOTED:
            return
        for part, name in found.items():
            if part in self._parts and name != part and part not in self._columns:
                self._note(name, f"{name!r} is read as {part!r}")
        if "system" in found and "output" in self._required and not _is_absent(fields[found["system"]]):
            self._note("system", f"{found['system']!r} is the system message before a query")
        read = {*found.values(), *(part for part, name in self._columns.items() if not name)}
        others = [name for name in fields if name not in read | self._noted]
        if not others and ("system" not in found or "system" in self._noted):
            self._explained.add(tuple(fields))
        if unread := [name for name in others if _is_text(fields[name])]:
            self._noted.update(unread)
            names = some_of([repr(name) for name in unread])
            self.on_note(f"{self._path}: not read: {names}; what an answer depends on must be in the input")

    def _note(self, name: str, text: str) -> None:
        if name not in self._noted:
            self._noted.add(name)
            self.on_note(f"{self._path}: {text}")

    def _way_out(self, error: ValidationError) -> str:
        part = error.errors(include_url=False)[0]["loc"][:1]
        if part and part[0] not in (*self._required, *self._columns) and part[0] in PARTS:
            return f"; to leave it out, pass `columns={{{part[0]!r}: ''}}`"
        return ""


def _is_of_messages(name: str) -> bool:
    return name.strip().casefold() in CONVERSATIONS


def _is_absent(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _is_text(value: Any) -> bool:
    """Whether a column may matter: it has text, or more than a number."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return bool(value.strip())
        return False
    return isinstance(value, list | dict) and bool(value)
