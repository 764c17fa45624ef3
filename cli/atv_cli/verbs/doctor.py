"""`atv-local doctor`: whether the installation is complete and steering works on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line

if TYPE_CHECKING:
    from atv_cli.doctor import Check

_COLOURS = {"ok": "green", "missing": "yellow", "failed": "red"}


def doctor(
    context: typer.Context,
    *,
    model: options.ModelOption = None,
    bundle: options.BundleOption = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the installation and whether steering works on this machine, and say how to fix what does not.

    The exit code is 1 if something that is needed to answer queries is broken; missing optional packages do not count.
    """
    from atv_cli.doctor import State, check_all

    checks: list[Check] = []
    for check in check_all(model, bundle):
        checks.append(replace(check, detail=for_command_line(check.detail, context)))
        if not as_json:
            _print(checks[-1])
    works = all(check.state is State.OK for check in checks if check.needed)
    if as_json:
        print(json.dumps({"ok": works, "checks": [asdict(check) for check in checks]}))
    elif works:
        print("\nSteering works on this machine.")
    else:
        print("\nSomething that answering needs is broken; see the lines that begin with missing or failed.")
    if not works:
        sys.exit(1)


def _print(check: Check) -> None:
    from rich.console import Console
    from rich.text import Text

    from atv_local.text import one_line

    line = Text.assemble(
        (f"{check.state:8}", _COLOURS[check.state]), f"{check.name:18}", one_line(check.detail), overflow="fold"
    )
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(line, soft_wrap=True)
    if check.fix:
        console.print(Text(f"{'':8}to fix it: {check.fix}"), soft_wrap=True)
