"""Options of other programs that would be taken for the short ones of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer

_WORD = re.compile(r"-[a-z](?:-?[a-z]+)+")
_HELP = "-h"
_NUMBER = re.compile(r"-?\d+")


def refuse_foreign_options(context: typer.Context, arguments: Sequence[str]) -> None:
    """Raise BadParameter for an option such as llama.cpp's `-st`, which would be `-s` with the value `t`, or `-hft`,
    which would ask for help."""
    options = {name: parameter for parameter in context.command.params for name in parameter.opts}
    takes_next = False
    for argument in arguments:
        if argument == "--":
            return
        unknown = not takes_next and argument not in options
        short, value = argument[:2], argument[2:]
        if unknown and _WORD.fullmatch(argument) and (short == _HELP or _takes_value(options.get(short))):
            way_out = "" if short == _HELP else f"; if {value!r} is the value of {short}, write {short} {value}"
            raise typer.BadParameter(f"{argument} is not an option here{way_out}", ctx=context)
        takes_next = _takes_value(options.get(argument))


def refuse_seed_as_system(context: typer.Context) -> None:
    """Raise BadParameter for a system message that is a number: `-s` is the seed in llama.cpp."""
    for parameter in context.command.params:
        if parameter.name == "system" and _NUMBER.fullmatch(str(context.params.get("system") or "")):
            message = "a number is not a system message; set the seed with --seed"
            raise typer.BadParameter(message, ctx=context, param=parameter)  # type: ignore[arg-type]  # its class is the same


def _takes_value(option: Any) -> bool:
    return option is not None and not getattr(option, "is_flag", False)
