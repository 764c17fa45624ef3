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
    output: Annotated[
        Path,
        Panel.OUTPUT.option("-o", "--output", metavar="FILE", help="Write the control vector to this GGUF file."),
    ],
    overwrite: Annotated[bool, Panel.OUTPUT.option("--overwrite", help="Replace an existing control vector.")] = False,
) -> None:
    """Write the task vector of a query, or the mean over a file of them, as a control-vector GGUF for llama.cpp.

    Use the file with --control-vector in llama-cli or atv-local run.
    """
    from atv_cli.queries_of_file import queries_of_file

    if (query is None) == (file is None):
        raise UsageError("give one query, or a file of queries with -f")
    queries = queries_of_file(file, column) or [query or ""]

    import hashlib

    import numpy as np

    from atv_local.answer import check_query
    from atv_local.data import check_replaceable_file
    from atv_local.generator import Bundle, Generator
    from atv_local.names import resolve_bundle
    from atv_local.vectors import Steering, TaskVector, parse_layers, write_control_vector

    for text in queries:
        check_query(text)
    check_replaceable_file(output, _is_ours, "control vector of this command", overwrite=overwrite)
    generator = Generator(Bundle(resolve_bundle(bundle)))
    spec = generator.bundle.manifest
    steering = Steering(
        strength=spec.steering.strength if strength is None else strength,
        layers=parse_layers(layers) if layers else spec.steering.layers,
    )
    total = np.zeros(generator.shape)
    for text in queries:
        total += generator(text).array
    provenance = {
        "bundle": generator.bundle.id,
        "precision": generator.precision,
        "target": spec.target.name,
        "vocabulary_sha256": spec.target.vocabulary_sha256,
        "positions": spec.injection.positions.value,
        "strength": f"{steering.strength:g}",
        "layers": "-".join(map(str, steering.layers or (1, spec.target.n_layer - 1))),
        "n_queries": str(len(queries)),
        "queries_sha256": hashlib.sha256("\n".join(queries).encode()).hexdigest(),
    }
    write_control_vector(steering.apply(TaskVector(total / len(queries))), output, spec.target.architecture, provenance)
    print(output)


def _is_ours(path: Path) -> bool:
    from atv_local.vectors import is_control_vector, read_control_vector

    return is_control_vector(path) and bool(read_control_vector(path).provenance)
