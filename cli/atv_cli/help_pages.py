"""Help pages as plain text: options in groups, summaries whole, lines broken at spaces only."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_NO_BREAK = "\u2011"  # instead of "-" while lines are wrapped: textwrap also breaks after hyphens


class Panel(StrEnum):
    """The groups of options, in the order of a help page."""

    INPUT = "Input"
    MODEL = "Model"
    STEERING = "Steering"
    SAMPLING = "Sampling"
    MEASURING = "Measuring"
    GENERATOR = "Generator"
    VERIFICATION = "Verification"
    PAPER = "Checkpoints of the paper's authors (.pt)"
    TRAINING = "Training"
    SERVER = "Server"
    PERFORMANCE = "Performance"
    OUTPUT = "Output"
    OTHER = "Options"

    def option(self, *names: str, **settings: Any) -> Any:
        """`typer.Option` in this group."""
        return typer.Option(*names, rich_help_panel=self, **settings)


def help_page(command: TyperCommand | TyperGroup, context: Any) -> str:
    """Usage, description, arguments, options by panel, and the commands of a group."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{panel: [] for panel in Panel}}
    for parameter in command.get_params(context):
        name, text = parameter.get_help_record(context) or ("", "")
        if parameter.param_type_name == "argument":
            sections["Arguments"].append((parameter.metavar or "", text))
        elif name:
            sections[getattr(parameter, "rich_help_panel", None) or Panel.OTHER].append((name, text))
    if isinstance(command, TyperGroup):
        sections["Commands"] = [(name, verb.short_help or "") for name, verb in command.commands.items()]
    page = context.make_formatter()
    command.format_usage(context, page)
    page.write_paragraph()
    with page.indentation():
        page.write_text((command.help or "").replace("-", _NO_BREAK))
    for title, rows in sections.items():
        if rows:
            with page.section(title):
                page.write_dl([(left, right.replace("-", _NO_BREAK)) for left, right in rows])
    return str(page.getvalue()).rstrip("\n").replace(_NO_BREAK, "-")
