"""`atv-local export`: checkpoint to bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atv_cli import options
from atv_cli.completion import MODEL_NAME
from atv_cli.help_pages import Panel
from atv_export import Layer0Method, PaperPooling, Processor
from atv_local.vectors import Positions

if TYPE_CHECKING:
    from atv_export import ExportReport


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A run folder of atv-local train, or a .pt file of the paper's authors."
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle folder to write.")],
    *,
    precisions: Annotated[
        str,
        Panel.GENERATOR.option(
            "--precisions",
            metavar="A,B,...",
            help="Write graphs of these precisions: any of int8, fp16 and fp32.",
        ),
    ] = "int8,fp32",
    processor: Annotated[
        Processor,
        Panel.GENERATOR.option("--processor", help="Quantise the int8 graph for this kind of processor."),
    ] = "any",
    card: Annotated[
        Path | None,
        Panel.OUTPUT.option("--card", metavar="FILE", help="Use this Markdown file as the model card."),
    ] = None,
    model: Annotated[
        str | None,
        Panel.VERIFICATION.option(
            "-m",
            "--model",
            help="Check that the bundle fits this target, and compare the logits that its vectors give.",
            **MODEL_NAME,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        Panel.VERIFICATION.option(
            "--weights",
            metavar="NAME",
            help="With -m, compare with these unquantised weights of the target: a folder or a Hugging Face model.",
            show_default="the GGUF, dequantised",
        ),
    ] = None,
    through: Annotated[
        bool,
        Panel.VERIFICATION.option(
            "--through/--no-through",
            help="With -m, load the target to compare logits; --no-through only reads its metadata.",
        ),
    ] = True,
    file: Annotated[
        Path | None,
        Panel.VERIFICATION.option(
            "-f",
            "--file",
            metavar="FILE",
            help='Verify with the queries of this file: "input" in JSON or CSV, or one per line in .txt.',
            show_default="the run's rows, else packaged queries",
        ),
    ] = None,
    column: options.Column = None,
    backbone: Annotated[
        str | None,
        Panel.PAPER.option(
            "--backbone",
            metavar="NAME",
            help="Read the tokenizer and configuration from this folder or Hugging Face model.",
            show_default="gpt2",
        ),
    ] = None,
    positions: Annotated[
        Positions | None,
        Panel.PAPER.option(
            "--positions", help="Set which tokens the checkpoint was trained to steer.", show_default="all"
        ),
    ] = None,
    pooling: Annotated[
        PaperPooling | None,
        Panel.PAPER.option(
            "--pooling", help="Set how the checkpoint pools the hidden states of a query.", show_default="last"
        ),
    ] = None,
    layer0: Annotated[
        Layer0Method | None,
        Panel.PAPER.option(
            "--layer0",
            help="Drop the vector of layer 0, which cannot be steered, add it to layer 1, or carry it through block 1.",
            show_default="the most exact",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        Panel.OUTPUT.option("--overwrite", help="Replace an existing bundle once the new one is verified."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Export a checkpoint as a bundle, verified against PyTorch before it is written."""
    from atv_cli.optional_packages import require_extra
    from atv_cli.queries_of_file import queries_of_file
    from atv_export import check_paths

    check_paths(checkpoint, output, overwrite=overwrite)
    queries = queries_of_file(file, column)
    with require_extra("export"):
        from atv_export import export as export_checkpoint
    report = export_checkpoint(
        checkpoint,
        output,
        precisions=precisions,
        processor=processor,
        card=card,
        model=model,
        weights=weights,
        through=through,
        queries=queries,
        backbone=backbone,
        positions=positions,
        pooling=pooling,
        layer0=layer0,
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        _show(report)
        print(output)


def _show(report: ExportReport) -> None:
    """Print the report on stderr."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from atv_local.generator import GRAPHS

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("graph", "size", "cosine, worst layer", "error, worst query", "in a batch"):
        table.add_column(name, justify="left" if name == "graph" else "right")
    for precision, check in report.graphs.items():
        size = decimal(report.manifest.files[GRAPHS[precision]].size)
        errors = f"{check.fidelity.error:.2g}", f"{check.batch:.2g}"
        table.add_row(precision, size, f"{check.fidelity.cosine:.6f}", *errors)
    console.print(table)
    lengths = next(iter(report.graphs.values())).lengths
    queries = next(iter(report.graphs.values())).fidelity.queries
    console.print(f"verified against PyTorch on {queries} queries of {lengths[0]} to {lengths[1]} tokens")
    for precision, through in report.logits.items():
        console.print(
            f"through llama.cpp with {precision}: KL {through.divergence:.3g} nats "
            f"({through.base_divergence:.3g} without steering), same token {through.agreement:.0%}"
        )
    if report.layer0:
        console.print(str(report.layer0))
