"""Values of rows as text: numbers as they are written, lists in the forms that files have."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from atv_local.data.json_records import WrittenNumber


def _as_text(value: Any) -> Any:
    if isinstance(value, WrittenNumber):
        return value.text
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise PydanticCustomError("text", "it must be a text, not {kind}; write JSON in quotes", {"kind": kind})
    if not isinstance(value, str):
        raise PydanticCustomError("text", "it must be a text")
    return value


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "it has a NUL character; remove it")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "it is blank")
    return text


def _as_choices(value: Any) -> Any:
    value = from_json_list(value)
    return _as_list(value.split("|") if isinstance(value, str) else value)


def _as_references(value: Any, info: ValidationInfo) -> Any:
    """A text is one reference, or a list of them as JSON, unless outputs are such lists themselves."""
    if isinstance(from_json_list(info.data.get("output")), list):
        return _as_list([value] if isinstance(value, str) else value)
    texts = from_json_list(value)
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):  # unlike a reference such as [1]
        return texts
    return _as_list([value] if isinstance(value, str) else value)


def from_json_list(value: Any) -> Any:
    """The list that a text holds as JSON, as cells of CSV files do; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _as_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("texts", 'it must be a list of texts, such as ["yes", "no"]')
    return value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("count", "it must be a number of tokens, or -1 for no limit")
    return value


def _at_least_one(value: int) -> int:
    if value < 1 and value != -1:
        raise PydanticCustomError("count", "it must be at least 1, or -1 for no limit, not {value}", {"value": value})
    return value


def _as_pairs(value: Any) -> Any:
    value = from_json_list(value)
    if not isinstance(value, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        raise PydanticCustomError("pairs", 'it must be a list of pairs, such as [["question", "answer"]]')
    return value


TextOrBlank = Annotated[str, AfterValidator(_without_nul), BeforeValidator(_as_text)]
NonBlank = Annotated[TextOrBlank, AfterValidator(_not_blank)]
_Texts = Annotated[tuple[NonBlank, ...], Field(strict=False)]  # not strict: JSON has lists, no tuples
ChoiceTexts = Annotated[_Texts, BeforeValidator(_as_choices)]
ReferenceTexts = Annotated[_Texts, BeforeValidator(_as_references)]
TokenLimit = Annotated[int, Field(strict=False), AfterValidator(_at_least_one), BeforeValidator(_no_boolean)]
"""Also as a text or with decimals, as cells of tables have it."""
History = Annotated[
    tuple[Annotated[tuple[TextOrBlank, TextOrBlank], Field(strict=False)], ...],
    Field(strict=False),
    BeforeValidator(_as_pairs),
]
"""Earlier questions with their answers."""
