"""Values for variables of a chat template, such as `enable_thinking`: as options, as arguments, in a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError

from atv_local.data.argument_types import Expected
from atv_local.errors import UsageError, first_problem
from atv_local.text import shown

_MAX_CHARS = 10_000
"""As JSON; the longest that published templates read is a list of documents."""


_SWITCH = "enable_thinking"


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    if (size := len(json.dumps(values, allow_nan=False))) > _MAX_CHARS:
        raise ValueError(f"values of {size} characters, and {_MAX_CHARS} are allowed")
    if not isinstance(switch := values.get(_SWITCH, False), bool):  # templates would take most others for true
        raise ValueError(f"{_SWITCH} is true or false, not {shown(switch)}")
    return values


TemplateVariables = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)], JsonValue],
    AfterValidator(_checked),
    Expected("a mapping such as {'enable_thinking': False}"),
]
"""Names to values of JSON."""


def as_template_variables(given: object) -> dict[str, Any]:
    """The variables, checked.

    Raises:
        UsageError: something else than names with values of JSON, or too much of it.
    """
    try:
        return TypeAdapter[dict[str, Any]](TemplateVariables).validate_python(given or {})
    except (ValidationError, RecursionError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else "values that are nested too deeply"
        raise UsageError(f"`template_variables` are not names with JSON values: {problem}") from error


def parse_template_variables(texts: Iterable[str]) -> dict[str, Any]:
    """Options as variables: `NAME=VALUE`, where a value that is not JSON is a text, or a JSON object of several.

    Raises:
        UsageError: neither.
    """
    variables: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if text.lstrip().startswith("{"):
            try:
                variables |= json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"`template_variables` {text!r} is not a JSON object") from error
        elif equals:
            variables[name.strip()] = _value(value.strip())
        else:
            raise UsageError(f"`template_variables` {text!r} is not NAME=VALUE, such as enable_thinking=false")
    return as_template_variables(variables)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)
