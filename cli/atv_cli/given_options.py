"""Which options the user gave."""

from __future__ import annotations

import typer


def was_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter of the command has its value from the command line, and not from a default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
