"""Options that verbs share are declared once, as fields of a dataclass; typer sees the fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

from atv_cli.llama_options import options_for, take_llama_options


def expand_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """A function for typer in which each dataclass parameter of `verb` is replaced by the dataclass's fields.

    `def run(query: ..., sampling: SamplingOptions)` becomes `run(query, max_tokens, temperature, ...)`, and `verb` is
    called with a `SamplingOptions` of the values given. Options of llama.cpp's programs are added (`llama_options`).
    """
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        group = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[name] = group
            parameters += _parameters(group)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    defaults = {parameter.name: parameter.default for parameter in parameters}
    parameters += [option.declare() for option in options_for(defaults)]

    @wraps(verb)
    def command(**values: Any) -> None:
        take_llama_options(values, defaults)
        for name, group in groups.items():
            values[name] = group(**{parameter.name: values.pop(parameter.name) for parameter in _parameters(group)})
        verb(**values)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    annotations = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotations[field.name]
        )
        for field in fields(group)
    ]
