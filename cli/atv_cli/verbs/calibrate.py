"""`atv-local calibrate`: the strength and layers of a bundle, chosen on rows under a budget of harm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line
from atv_cli.help_pages import Panel
from atv_local.errors import AtvError, UsageError

BUDGET = 0.2


def calibrate(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA", help="Validation rows in the files that eval takes; never those you report results on."
        ),
    ],
    *,
    model: options.ModelOption = None,
    bundle: options.BundleOption = None,
    column: options.Column = None,
    skip_bad_rows: options.SkipBadRows = False,
    rows: Annotated[
        int,
        Panel.INPUT.option(metavar="N", min=1, help="Use only the first N rows of each task."),
    ] = 100,
    strengths: Annotated[
        str,
        Panel.MEASURING.option(metavar="A,B,...", help="Try these strengths."),
    ] = "0.25,0.5,0.75,1,1.5,2",
    search_layers: Annotated[
        bool,
        Panel.MEASURING.option(
            "--search-layers/--no-search-layers",
            help="Try ranges of layers too, or only all layers of the bundle.",
        ),
    ] = True,
    budget: Annotated[
        float,
        Panel.MEASURING.option(
            metavar="FLOAT",
            help="Allow at most this much harm: KL(base || steered) on unrelated queries, in nats per token.",
        ),
    ] = BUDGET,
    unrelated: options.Unrelated = None,
    performance: options.EngineOptions,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Write the calibrated bundle to this folder.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        Panel.OUTPUT.option(
            "--overwrite", help="Replace an existing bundle in -o; without -o, change the bundle itself."
        ),
    ] = False,
    dry_run: Annotated[
        bool, Panel.OUTPUT.option("--dry-run", help="Print the measurements and write nothing.")
    ] = False,
) -> None:
    """Choose the best strength and layers for a bundle, within a limit on the harm done to unrelated queries."""
    import atv_eval
    from atv_local.data import parse_columns

    result = atv_eval.calibrate(
        data,
        model=model,
        bundle=bundle,
        output=output,
        columns=parse_columns(column or []),
        skip_bad_rows=skip_bad_rows,
        rows=rows,
        strengths=_numbers(strengths),
        search_layers=search_layers,
        budget=budget,
        unrelated=unrelated,
        dry_run=dry_run,
        overwrite=overwrite,
        **performance.arguments(),
        hooks=atv_eval.EvalHooks(on_message=lambda text: print(for_command_line(text, context), file=sys.stderr)),
    )
    print(result.as_markdown(), end="")
    if result.best is None:
        least = min(result.points, key=lambda point: point.harm.kl)
        raise AtvError(
            f"every strength does more harm than {budget:g} nats: the least is {least.harm.kl:.3f} at strength "
            f"{least.steering.strength:g}; raise --budget, or try smaller --strengths"
        )
    if round(result.cost, 1):
        print(f"this answers {result.cost:.1f} points worse than the best, to keep within --budget", file=sys.stderr)
    if result.bundle is not None:
        print(f"{result.bundle.path} is now bundle {result.bundle.id}", file=sys.stderr)


def _numbers(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise UsageError(f"--strengths {text!r} is not a list of numbers, such as 0.5,1,2") from error
