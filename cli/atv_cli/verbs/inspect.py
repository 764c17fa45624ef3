"""`atv-local inspect`: what a bundle, a model or a control vector is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_cli.completion import MODEL_NAME, NAME
from atv_cli.help_pages import Panel
from atv_local.errors import UsageError


def inspect(
    name: Annotated[
        str,
        typer.Argument(help="A bundle, or the GGUF of a model or a control vector.", **NAME),
    ],
    *,
    query: Annotated[
        list[str] | None,
        Panel.INPUT.option("-q", "--query", metavar="TEXT", help="Show the vector for this query; repeatable."),
    ] = None,
    file: Annotated[Path | None, options.queries_file("Show the vectors for")] = None,
    column: options.Column = None,
    model: Annotated[
        str | None,
        Panel.MODEL.option("-m", "--model", help="Check whether the bundle or vector fits this GGUF.", **MODEL_NAME),
    ] = None,
    picture: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "--picture", metavar="FILE", help="Draw the norms and cosines of the vectors to this PNG file."
        ),
    ] = None,
    overwrite: Annotated[bool, Panel.OUTPUT.option("--overwrite", help="Replace an existing picture.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what a bundle, model or control vector is: sizes, training data, licences and hashes."""
    from atv_cli.queries_of_file import queries_of_file
    from atv_cli.screen import file_facts, print_facts, print_vectors
    from atv_local.data import check_replaceable_file
    from atv_local.names import resolve_model, resolve_name

    if overwrite and not picture:
        raise UsageError("--overwrite has no effect without --picture; leave it out")
    queries = [*(query or []), *queries_of_file(file, column)]
    if picture and not queries:
        raise UsageError("--picture draws vectors of queries; give some with -q or -f")
    if picture:
        check_replaceable_file(picture, _is_picture, "picture that this command wrote", overwrite=overwrite)
    facts, vectors = file_facts(resolve_name(name), None if model is None else resolve_model(model), queries)
    if as_json:
        print(json.dumps(facts))  # in ASCII, since text from a file may have characters that a terminal acts on
    else:
        print_facts(facts)
        if queries:
            print_vectors(queries, vectors)
    if picture:
        from atv_cli.optional_packages import require_extra

        with require_extra("plot"):
            from atv_cli.screen import draw_vectors
        draw_vectors(queries, vectors, picture)


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(256)
    return head.startswith(b"\x89PNG") and b"Software\0atv-local" in head
