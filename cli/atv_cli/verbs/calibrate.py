"""`atv-local calibrate`: the gate, strength and layers of a bundle, fitted to rows under a budget of harm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line
from atv_cli.given_options import was_given
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
        Panel.INPUT.option(metavar="N", min=1, help="Answer only the first N rows of each task; the gate reads all."),
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
    unrelated: Annotated[
        Path | None,
        Panel.MEASURING.option(
            "--unrelated",
            "--outside",
            metavar="FILE",
            help="Fit the gate to the queries of this file too, one per line, which should not be steered, and measure "
            "harm on them.",
            show_default="packaged queries, on which harm is measured",
        ),
    ] = None,
    gate_recall: Annotated[
        float | None,
        Panel.MEASURING.option(
            "--gate-recall", metavar="X", help="Let at least this share of the rows pass the gate.", show_default="0.97"
        ),
    ] = None,
    only: Annotated[
        str | None,
        Panel.MEASURING.option(
            "--only",
            metavar="PART,...",
            help="Fit only the gate (gate), which loads no model, or choose only the strength and layers (strength).",
            show_default="both, if the bundle has a gate",
        ),
    ] = None,
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
    """Fit a bundle's gate to your rows, and choose its best strength and layers within a limit on harm."""
    if only == "gate":
        _refuse_given(context, "rows", "strengths", "search_layers", "budget")
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
        gate_recall=gate_recall,
        only=cast('Literal["gate", "strength"] | None', only),
        dry_run=dry_run,
        overwrite=overwrite,
        **performance.arguments(),
        hooks=atv_eval.EvalHooks(on_message=lambda text: print(for_command_line(text, context), file=sys.stderr)),
    )
    print(result.as_markdown(), end="")
    if result.gate is not None and result.gate.rows.gain < 0:
        print(
            f"{-result.gate.rows.gain:.1f} points fewer of the rows pass the gate; raise --gate-recall for more",
            file=sys.stderr,
        )
    if result.points and result.best is None:
        least = min(result.points, key=lambda point: point.harm.kl)
        raise AtvError(
            f"every strength does more harm than {budget:g} nats: the least is {least.harm.kl:.3f} at strength "
            f"{least.steering.strength:g}; raise --budget, or try smaller --strengths"
            + (", or --only gate" if result.gate else "")
        )
    if round(result.cost, 1):
        print(f"this answers {result.cost:.1f} points worse than the best, to keep within --budget", file=sys.stderr)
    if result.bundle is not None:
        print(f"{result.bundle.path} is now bundle {result.bundle.id}", file=sys.stderr)


def _refuse_given(context: typer.Context, *names: str) -> None:
    """Raise UsageError for an option that is given and has no effect on the gate."""
    for name in names:
        if was_given(context, name):
            raise UsageError(f"`{name}` has no effect with `only=gate`; leave one of them out")


def _numbers(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise UsageError(f"--strengths {text!r} is not a list of numbers, such as 0.5,1,2") from error
