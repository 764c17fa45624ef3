"""`atv-local export`: checkpoint to bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from atv_cli import options
from atv_local.errors import UsageError
from atv_local.generator import Precision
from atv_local.vectors import Positions

if TYPE_CHECKING:
    from atv_export import ExportReport


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that `atv-local train` wrote, or the ATV authors' .pt.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    precision: Annotated[
        str, typer.Option(metavar="P,...", help="Graphs to write, of int8, fp16 and fp32.")
    ] = "int8,fp32",
    processor: Annotated[
        Literal["any", "avx2", "avx512_vnni", "arm64"], typer.Option(help="What the int8 graph is made for.")
    ] = "any",
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="The target's GGUF: check the vectors through to its logits.", **options.NAME
        ),
    ] = None,
    through: Annotated[
        bool, typer.Option("--through/--no-through", help="With -m, load the target for that check.")
    ] = True,
    queries: Annotated[
        Path | None, typer.Option("-f", "--queries", help="Verify with these: lines, or JSON Lines [default: our own].")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Markdown file to use as the model card.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Of a .pt: folder or hub id of its tokenizer and config [default: gpt2].")
    ] = None,
    positions: Annotated[
        Positions | None, typer.Option(help="Of a .pt: tokens it was trained to steer [default: all].")
    ] = None,
    pooling: Annotated[
        Literal["last", "mean", "mix"] | None, typer.Option(help="Of a .pt: how states become one [default: last].")
    ] = None,
    layer0: Annotated[
        Literal["drop", "add", "carry"] | None,
        typer.Option(help="Of a .pt: what becomes of layer 0, which llama.cpp cannot steer [default: the best]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of the bundle.")] = False,
) -> None:
    """Export a checkpoint to an ONNX bundle, verified against PyTorch before it is written."""
    from atv_cli.extras import need
    from atv_cli.read_queries import read_queries

    with need("export"):
        from atv_export import PaperOptions, run
    from atv_local.names import resolve_model

    asked = {"backbone": backbone, "positions": positions, "pooling": pooling, "layer0": layer0}
    said = {name: value for name, value in asked.items() if value is not None}
    if said and checkpoint.is_dir():
        raise UsageError(f"{checkpoint} says itself how it was trained; --{next(iter(said))} is for the authors' .pt")
    if not through and model is None:
        raise UsageError("--no-through leaves out a check that only -m asks for; drop it")
    if processor != "any" and "int8" not in _precisions(precision):
        raise UsageError(f"--processor {processor} is of the int8 graph, which --precision {precision} leaves out")
    report = run(
        checkpoint,
        bundle,
        precisions=_precisions(precision),
        processor=processor,
        model=resolve_model(model) if model else None,
        through_target=through,
        from_authors=PaperOptions(**said) if said else None,  # type: ignore[arg-type]  # typer has checked them
        queries=read_queries(queries) if queries else (),
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
