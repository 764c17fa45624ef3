"""`atv-local doctor`: what is installed, what can be used, and whether steering works on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from atv_cli import options

if TYPE_CHECKING:
    from atv_cli.doctor import Check

_COLOURS = {"ok": "green", "missing": "yellow", "failed": "red"}


def doctor(
    model: options.Model = None,
    bundle: options.Bundle = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the installation and whether steering works on this machine, and say how to fix what does not.

    The exit code is 1 if something that answering needs is broken; optional packages are not needed.
    """
    from atv_cli.doctor import State, all_of

    checks: list[Check] = []
    for check in all_of(model, bundle):
        checks.append(check)
        if not as_json:
            _show(check)
    works = all(check.state is State.OK for check in checks if check.needed)
    if as_json:
        print(json.dumps({"ok": works, "checks": [asdict(check) for check in checks]}))
    elif not works:
        print("\nsomething that answering needs is broken: see what is marked missing or failed")
    else:
        print("\nsteering works here")
    if not works:
        sys.exit(1)


def _show(check: Check) -> None:
    from rich.console import Console
    from rich.text import Text

    from atv_local.text import one_line

    line = Text.assemble(
        (f"{check.state:8}", _COLOURS[check.state]), f"{check.name:18}", one_line(check.detail), overflow="fold"
    )
    console = Console(highlight=False)
    console.print(line, soft_wrap=True)
    if check.mend:
        console.print(Text(f"{'':8}mend it with: {check.mend}"), soft_wrap=True)
