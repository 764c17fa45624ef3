"""The parts of a row and the columns of a file that have them, by the names that files use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from types import MappingProxyType

from atv_local.data.label_variants import with_single_spaces
from atv_local.errors import UsageError

Columns = Mapping[str, str]
"""What a file calls parts of a row, such as `{"input": "question"}`. A part with an empty name is left out."""
DEFAULT_COLUMNS: Columns = MappingProxyType({})

PARTS = ("input", "output", "task", "choices", "references", "instruction", "system", "history", "max_tokens")
"""All that a row can have, whoever reads it."""
CONVERSATIONS = ("messages", "conversations", "conversation")
"""Columns of messages."""
_OTHER_NAMES = {
    "input": ("prompt", "question", "query", "text"),
    "output": ("completion", "response", "answer", "label"),
    "system": ("system_prompt", "system_message"),
}
"""As data sets call them: read if a file has exactly one of these and not the part's own name."""


def parse_columns(options: Iterable[str]) -> dict[str, str]:
    """Columns from options such as `input=question`; `choices=` leaves a part out.

    Raises:
        UsageError: not of that form, a part that is named twice, or an input without a name.
    """
    columns: dict[str, str] = {}
    for option in options:
        part, separator, name = option.partition("=")
        if not part or not separator or part in columns or (not name and part in ("input", "output")):
            raise UsageError(f"cannot read column {option!r}; write PART=NAME, as input=question, once for each part")
        columns[part] = name
    return columns


def find_columns(names: Collection[str], columns: Columns) -> dict[str, str]:
    """The column of each part that is there: the one that `columns` names, or that of the part's name in any case, or
    one that data sets use for it. A file that has only an `instruction` has it as the input."""
    by_key = {_key(name): name for name in reversed(list(names))}
    found = {part: name for part, name in columns.items() if name in names}
    for part in PARTS:
        if part not in columns and part in by_key:
            found[part] = part if part in names else by_key[part]
    if "input" not in {*found, *columns}:
        found |= dict(islice((("input", by_key[name]) for name in CONVERSATIONS if name in by_key), 1))
    is_conversation = _key(found.get("input", "")) in CONVERSATIONS
    for part, others in _OTHER_NAMES.items():
        if part in {*found, *columns} or (part == "output" and is_conversation):
            continue
        there = [by_key[name] for name in others if name in by_key and by_key[name] not in found.values()]
        if len(there) == 1:
            found[part] = there[0]
    if "input" not in {*found, *columns} and "instruction" in found and "instruction" not in columns:
        found["input"] = found.pop("instruction")
    return found


def names_for(part: str, names: Collection[str]) -> list[str]:
    """The columns that could be a part by one of the names that data sets use for it."""
    return [name for name in names if _key(name) in _OTHER_NAMES.get(part, ())]


def _key(name: str) -> str:
    """A name without what nobody sees in it, in lower case."""
    return with_single_spaces(name).casefold()
