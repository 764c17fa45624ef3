"""The parts of a row in the columns of a file, by whatever names it has for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from atv_local.data.record import Record
from atv_local.errors import DataError, UsageError, first_problem

Columns = Mapping[str, str]
"""What a file calls parts of a row, such as `{"input": "question"}`; other parts have their own names."""
DEFAULT_COLUMNS: Columns = MappingProxyType({})

_Model = TypeVar("_Model", bound=BaseModel)


def parse_columns(options: Iterable[str]) -> dict[str, str]:
    """Columns from options such as `input=question`.

    Raises:
        UsageError: not of that form, or a part that is named twice.
    """
    columns: dict[str, str] = {}
    for option in options:
        part, _, name = option.partition("=")
        if not part or not name or part in columns:
            raise UsageError(f"cannot read column {option!r}; write PART=NAME, as input=question, once for each part")
        columns[part] = name
    return columns


class RowParser(Generic[_Model]):
    """Makes rows of one model from records.

    Args:
        model: its fields are the parts of a row.
        columns: a part that is named here must be in the file, also if the model does without.

    Raises:
        UsageError: `columns` names a part that the model does not have.
    """

    def __init__(self, model: type[_Model], columns: Columns) -> None:
        parts = model.model_fields
        if unknown := [part for part in columns if part not in parts]:
            raise UsageError(f"`columns` names {unknown[0]!r}; the parts of a row are {', '.join(parts)} here")
        self._model = model
        self._names = {part: columns.get(part, part) for part in parts}
        self._optional = {part for part in parts if not parts[part].is_required()}
        self._columns = columns

    def check_names(self, names: Collection[str]) -> None:
        """Raise DataError if a required part is not among the names of a file's columns."""
        for part, name in self._names.items():
            if name not in names and (part in self._columns or part not in self._optional):
                found = ", ".join(map(repr, names))[:200] or "none"
                raise DataError(f"no column {name!r}, found {found}; name yours with `columns={{{part!r}: ...}}`")

    def row(self, record: Record) -> _Model:
        """The row of a record.

        Raises:
            DataError: the record has an error, or a part that is missing or not valid. File and line are not named.
        """
        if record.error:
            raise DataError(record.error)
        self.check_names(record.fields)
        values = {part: record.fields[name] for part, name in self._names.items() if name in record.fields}
        if record.cells:
            values = {part: cell for part, cell in values.items() if cell or part not in self._optional}
            if "choices" in values:
                values["choices"] = values["choices"].split("|")
            if "references" in values:
                values["references"] = [values["references"]]
        try:
            return self._model.model_validate(values, strict=False if record.cells else None)
        except ValidationError as error:
            raise DataError(first_problem(error, self._names)) from error
