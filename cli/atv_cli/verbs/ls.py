"""`atv-local ls`: the models and bundles that can be named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line


def ls(context: typer.Context, *, as_json: options.AsJson = False) -> None:
    """List the models and bundles that -m and -g can name: embedded, aliases, and those of Hugging Face and Ollama."""
    from rich.filesize import decimal
    from rich.text import Text

    from atv_cli.screen import print_columns
    from atv_local.names import EMBEDDED, list_names
    from atv_local.text import one_line

    entries = [replace(entry, error=for_command_line(entry.error, context)) for entry in list_names()]
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries]))
        return
    rows = [[Text(head, style="bold") for head in ("name", "kind", "size", "quantisation, or what it fits")]]
    for entry in entries:
        size = decimal(entry.size) if entry.size else ""
        about = entry.error or entry.quantisation or (entry.fits and f"fits {entry.fits}")
        if entry.default:
            about += "; the default" if entry.default == EMBEDDED else f"; the default, set by {entry.default}"
        rows.append([Text(one_line(text)) for text in (entry.name, entry.kind or "missing", size, about)])
    print_columns(rows, right=[2])
