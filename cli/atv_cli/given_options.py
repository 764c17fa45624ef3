"""Which options the user gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer


def was_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter of the command has its value from the command line, and not from a default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_second_bundle(context: typer.Context, order: Sequence[Any]) -> None:
    """Raise BadParameter for several bundles where one is taken, rather than use the last of them.

    Args:
        context: of the command.
        order: the parameters as they were given, as a parser has them.
    """
    for parameter in context.command.params:
        if parameter.name == "bundle" and not parameter.multiple and (n_given := order.count(parameter)) > 1:
            message = f"{n_given} bundles are given, and {context.info_name} takes one; give one of them"
            raise typer.BadParameter(message, ctx=context, param=parameter)  # type: ignore[arg-type]  # its class is the same
