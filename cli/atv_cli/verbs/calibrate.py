"""`atv-local calibrate`: the strength and layers of a bundle, chosen on rows under a budget of harm."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_local.errors import AtvError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atv_eval import Point

BUDGET = 0.2


def calibrate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="Validation rows, as for eval; never the rows you report results on."),
    ],
    *,
    bundle: Annotated[
        str,
        Panel.MODEL.option(
            "-g",
            "--bundle",
            help="Calibrate this bundle: a folder, a zip file, hf:user/repo or an alias.",
            **options.BUNDLE_NAME,
        ),
    ],
    model: options.Model = None,
    column: options.Column = None,
    rows: Annotated[
        int,
        Panel.INPUT.option(metavar="N", min=1, help="Read only this many rows of each task."),
    ] = 100,
    strengths: Annotated[
        str,
        Panel.MEASURING.option(metavar="A,B,...", help="Measure these strengths."),
    ] = "0.25,0.5,0.75,1,1.5,2",
    layers: Annotated[
        bool,
        Panel.MEASURING.option(
            "--layers/--no-layers",
            help="Measure ranges of layers too, or only all of the bundle's.",
        ),
    ] = True,
    budget: Annotated[
        float,
        Panel.MEASURING.option(
            metavar="FLOAT",
            help="Allow this much KL(base || steered) on unrelated queries, in nats a token.",
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
            show_default="the bundle itself is changed",
        ),
    ] = None,
    dry_run: Annotated[
        bool, Panel.OUTPUT.option("--dry-run", help="Print the measurements and write nothing.")
    ] = False,
) -> None:
    """Choose the best strength and layers for a bundle, within a limit on the harm done to unrelated queries."""
    tried = _numbers(strengths)

    import atv_local
    from atv_eval import calibration, read_tasks, read_unrelated
    from atv_local.data import check_replaceable, parse_columns
    from atv_local.generator import MANIFEST
    from atv_local.names import is_managed, resolve_bundle

    calibration.check(tried, budget)
    if output is None and not dry_run and is_managed(bundle):
        raise UsageError(
            f"{bundle} belongs to a cache or to the installation and is not changed; name a folder to write to with -o"
        )
    opened = resolve_bundle(bundle)
    place = output or opened
    if not dry_run:
        if place.is_file():
            raise UsageError(f"{place} is a file; name a folder to write the calibrated bundle to with -o")
        check_replaceable(place, MANIFEST)
    tasks = read_tasks(data, [], parse_columns(column or []), rows, labels=False)
    queries = read_unrelated(unrelated)
    engine = atv_local.load(model, opened, **asdict(performance))
    best, points = calibration.calibrate(
        engine,
        tasks,
        queries,
        budget=budget,
        strengths=tried,
        search_layers=layers,
        on_stage=lambda what: print(f"atv-local: measuring {what}", file=sys.stderr),
    )
    print(_curve(points, best), end="")
    if best is None:
        least = min(points, key=lambda point: point.harm.kl)
        raise AtvError(
            f"every strength does more harm than {budget:g} nats: the least is {least.harm.kl:.3f} at strength "
            f"{least.steering.strength:g}; raise --budget, or try smaller --strengths"
        )
    if not dry_run and engine.generator is not None:
        name = calibration.write(engine.generator.bundle, best.steering, place)
        print(f"atv-local: {place} is now bundle {name}", file=sys.stderr)


def _numbers(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise UsageError(f"--strengths {text!r} is not a list of numbers, such as 0.5,1,2") from error


def _curve(points: Sequence[Point], best: Point | None) -> str:
    """Markdown, by layers and strength; the chosen point is marked."""
    from atv_eval.bench import table

    rows = []
    for point in points:
        first, last = point.steering.layers or (0, 0)
        mark = " (chosen)" if point is best else ""
        rows.append(
            [
                f"{point.steering.strength:g}{mark}",
                f"{first}-{last}" if last else "all",
                point.accuracy.percent(),
                f"{point.harm.kl:.3f}",
                f"{100 * point.harm.agreement:.1f}",
                f"{100 * point.harm.same:.1f}",
            ]
        )
    head = ["strength", "layers", "exact match, %", "KL, nats a token", "tokens that stay, %", "answers that stay, %"]
    return table(head, rows)
