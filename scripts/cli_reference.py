"""Write docs/reference/cli.md from the help of the command line (`make docs`). A test compares the two.

python -m scripts.cli_reference
"""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from atv_cli import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
_INTRODUCTION = """# Command line

This page is generated from the program's own help by `make docs`; do not edit it.

Results are on stdout, everything else on stderr. The exit code is

| code | when |
| --- | --- |
| 0 | the command did what was asked |
| 1 | it failed: a file that is missing or not valid, a bundle that does not fit, no answer |
| 2 | it was called in the wrong way: an unknown option, a value out of range, an output that exists |
| 130 | it was stopped with Ctrl-C |
| 141 | the program that reads its output has ended, as `head` does |
"""


def reference() -> str:
    """Return the help of every verb as Markdown, wrapped at 80 columns."""
    commands = get_command(app).commands  # type: ignore[attr-defined]  # ours is a group
    verbs = ["", *(name for name, command in commands.items() if not command.hidden)]
    parts = [_INTRODUCTION]
    for verb in verbs:
        text = CliRunner().invoke(app, [*verb.split(), "--help"], prog_name="atv-local", env={"COLUMNS": "100"}).stdout
        text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip()
        parts.append(f"## `{' '.join(['atv-local', verb]).strip()}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
