"""A chat of lines that are piped in."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from atv_cli.main import app

FRUIT, BEAST = "apple 1", "dog 1"  # one is answered with a, the other with b


def chat(arguments: list[str], *lines: str) -> Result:
    return CliRunner().invoke(app, ["chat", *arguments], input="".join(f"{line}\n" for line in lines))
