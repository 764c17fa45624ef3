"""`atv-local vector`: the task vector of a query, or the mean over a file of them, as a llama.cpp control vector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_local.errors import UsageError


def vector(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="The query to make a vector for.")] = None,
    *,
    file: Annotated[Path | None, options.queries_file("Take the mean over")] = None,
    column: options.Column = None,
    bundle: options.BundleOption = None,
    strength: options.Strength = None,
    layers: options.Layers = None,
    told: options.TaskOptions,
    static_vector: Annotated[
        bool, Panel.INPUT.option("--static-vector", help="Write the static vector of the bundle, which needs no query.")
    ] = False,
    output: Annotated[
        Path,
        Panel.OUTPUT.option("-o", "--output", metavar="FILE", help="Write the control vector to this GGUF file."),
    ],
    overwrite: Annotated[bool, Panel.OUTPUT.option("--overwrite", help="Replace an existing control vector.")] = False,
) -> None:
    """Write the task vector of a query, or the mean over a file of them, as a control-vector GGUF for llama.cpp.

    Use the file with --control-vector in llama-cli or atv-local run. A bundle that was trained with --prompt-vector
    makes two vectors for a query; the file has the one that steers the answer.
    """
    from atv_cli.load_engine import say_not_read
    from atv_cli.queries_of_file import queries_of_file

    if (query is not None) + (file is not None) + static_vector != 1:
        raise UsageError("give one query, a file of queries with -f, or --static-vector")
    if static_vector and told != options.TaskOptions():
        raise UsageError("--static-vector is one vector for all tasks, so --task and --instruction have no effect")
    queries = [] if static_vector else queries_of_file(file, column) or [query or ""]

    from dataclasses import replace
    from functools import partial

    from atv_local.answer import check_query, said_instruction
    from atv_local.data import tell
    from atv_local.generator import Bundle, Generator
    from atv_local.names import choose_bundle, explain_defaults
    from atv_local.vectors import check_control_vector_output, parse_layers

    for text in queries:
        check_query(text)
    check_control_vector_output(output, overwrite=overwrite)
    chosen = choose_bundle(bundle)
    path = chosen.path()
    with explain_defaults(None, chosen):
        generator = Generator(Bundle(path))
    manifest = generator.bundle.manifest
    said = said_instruction(told.task, told.instruction, (), manifest.tasks)
    if said is None and manifest.only_task:
        said = manifest.only_task.told()
    queries = [tell(said, text) for text in queries]
    if static_vector and generator.static is None:
        raise UsageError(f"{path} has no static vector; train it with --static-vector")
    steering = generator.steering
    if strength is not None:
        steering = replace(steering, strength=strength)
    if layers:
        steering = replace(steering, layers=parse_layers(layers))
    vector = generator.static_vector if static_vector else partial(generator.control_vector, queries)
    vector(steering=steering).save(output, overwrite=overwrite)
    say_not_read(generator, queries)
    print(output)
