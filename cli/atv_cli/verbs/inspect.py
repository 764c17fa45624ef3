"""`atv-local inspect`: what a bundle, a model or a control vector is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_local.errors import UsageError


def inspect(
    name: Annotated[
        str, typer.Argument(help="A bundle (folder or zip), a model's GGUF, or a control vector's.", **options.NAME)
    ],
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="Say whether the bundle or vector fits this GGUF.", **options.NAME),
    ] = None,
    query: Annotated[
        list[str] | None, typer.Option("-q", "--query", help="Show the bundle's vector for it; repeatable.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", help='The same for these: lines, or "input" of JSON Lines.')
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PNG", help="Draw the vectors: norms by layer, likeness.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record instead of tables.")] = False,
) -> None:
    """Say what a file is, what it fits, what it was trained on, its numbers, licences and hashes."""
    from atv_cli.read_queries import read_queries
    from atv_cli.screen import describe_file, terminal
    from atv_local.names import resolve_model, resolve_name

    queries = [*(query or []), *(read_queries(file) if file else [])]
    if picture and not queries:
        raise UsageError("--picture draws the vectors of queries; name some with -q or -f")
    found, vectors = describe_file.of(resolve_name(name), resolve_model(model) if model else None, queries)
    if as_json:
        print(json.dumps(found))  # in ASCII: a stranger's text may hold what a terminal obeys
    else:
        terminal.facts(found)
        if queries:
            terminal.vectors(queries, vectors)
    if picture:
        from atv_cli.extras import need

        with need("plot"):
            from atv_cli.screen import pictures
        pictures.draw(queries, vectors, picture)
