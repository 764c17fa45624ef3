"""Options that restrict what answers can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from atv_cli.help_pages import Panel


@dataclass(frozen=True)
class ConstraintOptions:
    """What answers are restricted to: at most one of them."""

    choices: Annotated[
        str | None,
        Panel.SAMPLING.option(
            "--choices",
            metavar="A,B,C|FILE|auto[:TASK]",
            help="Answer with one of these texts: separated by commas, the lines or the JSON list (.json) of a file, "
            "or the bundle's own labels (auto; auto:TASK for those of one task). run --json and batch also give the "
            "probability of each.",
        ),
    ] = None
    schema: Annotated[
        Path | None,
        Panel.SAMPLING.option(
            "--schema", metavar="FILE", help="Answer with JSON that is valid under this JSON schema."
        ),
    ] = None
    grammar: Annotated[
        Path | None,
        Panel.SAMPLING.option(
            "--grammar", metavar="FILE", help="Answer with a text that this grammar allows, in llama.cpp's GBNF."
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """All of them, as `Engine.answer` and `Conversation` take them.

        Raises:
            UsageError: a file that cannot be read.
        """
        from atv_local.answer import parse_choices, read_grammar, read_schema

        return {
            "choices": None if self.choices is None else parse_choices(self.choices),
            "schema": None if self.schema is None else read_schema(self.schema),
            "grammar": None if self.grammar is None else read_grammar(self.grammar),
        }
