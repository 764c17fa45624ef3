"""Messages of the library in the words of the command line.

The library names Python parameters in backticks, since it does not know who calls it: `max_tokens`, `overwrite=True`,
`model=...`. A user of a command knows flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from atv_local.errors import first_problem
from atv_local.text import one_line

if TYPE_CHECKING:
    from pydantic import ValidationError

_PARAMETER = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")
_ALTERNATIVE = re.compile(r",? or (?:[a-z]+ ){1,2}`([a-z_]+)(?:=[^`]*)?`(?=$|[;,.])")
"""A second remedy, such as ", or pass `off=True`"."""
_PULL = re.compile(r"(; [^;`]*)`atv_local\.names\.pull_name\('([^'`]*)'\)`")
"""The remedy at the end of a message about a name that is not on this machine."""
_INDEX = re.compile(r"^[0-9]+: ")
"""Which of several values of an option is wrong; the value itself says so."""
_MAPPING = re.compile(r"\{'(\w+)': (?:(\.\.\.)|'')\}")
_MAX_MESSAGE = 500
_OUTPUTS = ("output", "picture")
"""Parameters that are a file or folder to write."""
_SAME = {
    "control_vectors": "control_vector",
    "columns": "column",
    "queries": "file",
    "methods": "method",
    "metrics": "metric",
    "template_variables": "template_variable",
}
"""Parameters that take several values in Python: repeatable options here, or a file of them."""


def for_command_line(message: str, context: typer.Context) -> str:
    """The message with every backticked parameter of the current command as its flag, and others without backticks.

    A second remedy is dropped if the command does not have its parameter. `max_tokens` becomes `--max-tokens`,
    `overwrite=True` `--overwrite`, `model=...` `--model`, `positions=all` `--positions all`,
    `columns={'input': ...}` `--column input=NAME`, and an argument its name in capitals. The call of `pull_name` that
    fetches a name becomes `atv-local pull NAME`, and is dropped if that is the current command.
    """
    parameters: dict[str | None, Any] = {}
    for parameter in _parameters(context):
        parameters |= dict.fromkeys([parameter.name, *map(_python_name, parameter.opts)], parameter)

    def found(name: str) -> Any:
        return parameters.get(name) or parameters.get(_SAME.get(name))

    def as_flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        value = value and _MAPPING.sub(lambda part: f"{part[1]}={'NAME' if part[2] else ''}", value)
        parameter = found(name)
        return (parameter and _flag(parameter, name, value)) or without_backticks(match[0])

    message = _PULL.sub("" if context.info_name == "pull" else r"\1atv-local pull \2", message)
    message = _ALTERNATIVE.sub(lambda match: match[0] if found(match[1]) else "", message)
    return _PARAMETER.sub(as_flag, message)


def without_backticks(message: str) -> str:
    """The message with its parameters as plain words, as the settings of a chat are named."""
    return _PARAMETER.sub(lambda match: match[0].strip("`").removesuffix("=..."), message)


def explain_bad_value(error: typer.BadParameter) -> None:
    """Say in the message of an option or argument that typer refuses what is wrong with which value."""
    cause = error.__cause__
    if hasattr(cause, "errors"):  # pydantic's, which is not imported until something is wrong
        problem = first_problem(cast("ValidationError", cause))
        error.message = one_line(_INDEX.sub("", problem))[:_MAX_MESSAGE]


def refuse_empty_paths(context: typer.Context) -> None:
    """Raise BadParameter for a path of which an empty argument has made the current folder."""
    here = Path()
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if value == here or (isinstance(value, list | tuple) and here in value):
            message = "the path is empty; name a file or folder"
            raise typer.BadParameter(message, ctx=context, param=parameter)  # type: ignore[arg-type]  # as above


def refuse_stdout(context: typer.Context) -> None:
    """Raise BadParameter for `-` as the file or folder to write."""
    for parameter in context.command.params:
        if parameter.name in _OUTPUTS and context.params.get(parameter.name) == Path("-"):
            message = "results are not written to stdout, so - is not taken; name a file or folder"
            raise typer.BadParameter(message, ctx=context, param=parameter)  # type: ignore[arg-type]  # as above


def _parameters(context: typer.Context) -> Iterator[Any]:
    """Those of the program first, so that the command's own win."""
    if context.parent is not None:
        yield from _parameters(context.parent)  # type: ignore[arg-type]  # its class is the same
    yield from context.command.params


def _python_name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _flag(parameter: Any, name: str, value: str | None) -> str:
    """What sets it to a value; empty if nothing does."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    options: list[str] = parameter.opts
    if parameter.is_flag:
        options, value = (parameter.secondary_opts if value == "False" else options), None
    flags = [option for option in options if option.startswith("--")]
    flag = next((option for option in flags if _python_name(option) == name), next(iter(flags), ""))
    return flag if value in (None, "...") else f"{flag} {value}"
