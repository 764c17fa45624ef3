"""`atv-local export`: checkpoint to bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_local.errors import UsageError
from atv_local.generator import Precision
from atv_local.vectors import Positions

if TYPE_CHECKING:
    from atv_export import ExportReport


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="A folder written by atv-local train, or a .pt of the authors."),
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle folder to write.")],
    *,
    precision: Annotated[
        str,
        Panel.GENERATOR.option(
            "--precision", metavar="PRECISION,...", help="Write graphs of these precisions, of int8, fp16 and fp32."
        ),
    ] = "int8,fp32",
    processor: Annotated[
        Literal["any", "avx2", "avx512_vnni", "arm64"],
        Panel.GENERATOR.option("--processor", help="Quantize the int8 graph for this kind of processor."),
    ] = "any",
    card: Annotated[
        Path | None,
        Panel.OUTPUT.option("--card", metavar="FILE", help="Take this Markdown file as the model card."),
    ] = None,
    model: Annotated[
        str | None,
        Panel.VERIFICATION.option(
            "-m", "--model", help="Verify the vectors in this target's GGUF, up to its logits.", **options.NAME
        ),
    ] = None,
    through: Annotated[
        bool,
        Panel.VERIFICATION.option(
            "--through/--no-through", help="Load the target of -m to compare logits, or only read what it is."
        ),
    ] = True,
    queries: Annotated[
        Path | None,
        Panel.VERIFICATION.option(
            "-f",
            "--queries",
            metavar="FILE",
            help='Verify with the queries of this file: "input" in JSON Lines or .csv, or one a line in .txt.',
            show_default="packaged queries",
        ),
    ] = None,
    column: options.Column = None,
    backbone: Annotated[
        str | None,
        Panel.PAPER.option(
            "--backbone",
            metavar="NAME",
            help="Take tokenizer and configuration from this folder or Hugging Face model.",
            show_default="gpt2",
        ),
    ] = None,
    positions: Annotated[
        Positions | None,
        Panel.PAPER.option("--positions", help="Steer the tokens that it was trained to steer.", show_default="all"),
    ] = None,
    pooling: Annotated[
        Literal["last", "mean", "mix"] | None,
        Panel.PAPER.option("--pooling", help="Combine the states of a query in this way.", show_default="last"),
    ] = None,
    layer0: Annotated[
        Literal["drop", "add", "carry"] | None,
        Panel.PAPER.option(
            "--layer0",
            help="Drop the vector of layer 0, which llama.cpp cannot steer, add it to layer 1, or carry its effect on.",
            show_default="the most exact",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Export a checkpoint as a bundle, verified against PyTorch before it is written."""
    from atv_cli.optional_packages import require_extra
    from atv_cli.read_queries import read_queries

    with require_extra("export"):
        from atv_export import PaperOptions, run
    from atv_local.names import resolve_model

    asked = {"backbone": backbone, "positions": positions, "pooling": pooling, "layer0": layer0}
    said = {name: value for name, value in asked.items() if value is not None}
    if said and checkpoint.is_dir():
        raise UsageError(f"{checkpoint} states how it was trained; leave out --{next(iter(said))}, which is for a .pt")
    if not through and model is None:
        raise UsageError("--no-through has no effect without -m; leave it out")
    if processor != "any" and "int8" not in _precisions(precision):
        raise UsageError(f"--processor {processor} has no effect without int8 in --precision {precision}")
    report = run(
        checkpoint,
        bundle,
        precisions=_precisions(precision),
        processor=processor,
        model=resolve_model(model) if model else None,
        through_target=through,
        from_authors=PaperOptions(**said) if said else None,  # type: ignore[arg-type]  # typer has checked them
        queries=read_queries(queries, column),
        text=card,
    )
    if as_json:
        print(json.dumps(_record(report)))
    else:
        _show(report)
        print(bundle)


def _precisions(given: str) -> list[Precision]:
    """`int8,fp16` as a list; UsageError for anything else."""
    names = [name.strip() for name in given.split(",")]
    found = [precision for precision in get_args(Precision) if precision in names]
    if unknown := [name for name in names if name not in found]:
        raise UsageError(f"--precision {unknown[0]!r} is none of {', '.join(get_args(Precision))}")
    return found


def _record(report: ExportReport) -> dict[str, object]:
    """The report as plain values; a layer that is never steered has no cosine."""
    from dataclasses import asdict

    graphs = {}
    for name, found in report.checked.items():
        graphs[name] = {
            "queries": found.fidelity.queries,
            "lengths": list(found.lengths),
            "cosine": found.fidelity.cosine,
            "cosine_by_layer": [None if math.isnan(value) else value for value in found.layers],
            "largest_error": found.fidelity.error,
            "largest_error_in_a_batch": found.batch,
            "largest_difference": found.largest_difference,
        }
    return {
        "target": report.manifest.target.model_dump(),
        "files": {name: entry.model_dump() for name, entry in report.manifest.files.items()},
        "graphs": graphs,
        "int8_kept": report.kept,
        "logits": {name: asdict(found) for name, found in report.logits.items()} if report.logits else None,
        "layer0": asdict(report.layer0) if report.layer0 else None,
    }


def _show(report: ExportReport) -> None:
    """The report on stderr."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from atv_export import describe
    from atv_local.generator import GRAPHS

    console = Console(stderr=True, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("graph", "size", "cosine, worst layer", "error, worst query", "in a batch"):
        table.add_column(name, justify="left" if name == "graph" else "right")
    for precision, found in report.checked.items():
        size = decimal(report.manifest.files[GRAPHS[precision]].size)
        errors = f"{found.fidelity.error:.2g}", f"{found.batch:.2g}"
        table.add_row(precision, size, f"{found.fidelity.cosine:.6f}", *errors)
    console.print(table)
    lengths = next(iter(report.checked.values())).lengths
    queries = next(iter(report.checked.values())).fidelity.queries
    console.print(f"verified against PyTorch on {queries} queries of {lengths[0]} to {lengths[1]} tokens")
    for precision, through in (report.logits or {}).items():
        console.print(
            f"through llama.cpp with {precision}: KL {through.divergence:.3g} nats "
            f"({through.base_divergence:.3g} without steering), same token {through.agreement:.0%}"
        )
    if report.layer0:
        console.print(describe(report.layer0))
