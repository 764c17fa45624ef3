"""`atv-local calibrate`: the strength and layers of a bundle, chosen on rows under a budget of harm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atv_cli import options
from atv_local.errors import AtvError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atv_eval import Point

BUDGET = 0.2


def calibrate(
    data: Annotated[list[Path], typer.Argument(help="Validation rows, as for eval; never those you report on.")],
    bundle: Annotated[
        str, typer.Option("-g", "--bundle", help="Bundle to calibrate, a folder or a zip.", **options.NAME)
    ],
    model: options.Model = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the bundle here [default: in its place].")
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Most KL(base || steered) outside the tasks, in nats a token.")
    ] = BUDGET,
    strengths: Annotated[str, typer.Option(metavar="A,B,...", help="Strengths to try.")] = "0.25,0.5,0.75,1,1.5,2",
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="Try ranges of layers too.")] = True,
    rows: Annotated[int, typer.Option(min=1, help="Only the first rows of each task.")] = 100,
    unrelated: Annotated[
        Path | None, typer.Option(help="Unrelated queries, one a line [default: some of our own].")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="What the data calls a part of a row, as input=question; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the curve and write nothing.")] = False,
    ctx_size: options.CtxSize = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    provider: options.Provider = None,
    precision: options.Precision = None,
) -> None:
    """Find the strength and layers that answer best within a budget of harm, and make them the bundle's defaults."""
    tried = _numbers(strengths)

    import atv_local
    from atv_eval import calibration, read_tasks, read_unrelated
    from atv_local.data import Columns, check_replaceable
    from atv_local.generator import MANIFEST
    from atv_local.names import is_managed, resolve_bundle

    calibration.check(tried, budget)
    if output is None and not dry_run and is_managed(bundle):
        raise UsageError(f"{bundle} is in a cache and stays as it is; name a folder for the calibrated bundle with -o")
    opened = resolve_bundle(bundle)
    place = output or opened
    if not dry_run:
        if place.is_file():
            raise UsageError(f"{place} is a file; name a folder to write the calibrated bundle to with -o")
        check_replaceable(place, MANIFEST)
    tasks = read_tasks(data, [], Columns.parse(column or []), rows, labels=False)
    queries = read_unrelated(unrelated)
    engine = atv_local.load(
        model,
        opened,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        provider=provider,
        precision=precision,
    )
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
            f"no strength stays within {budget:g} nats: the least harm is {least.harm.kl:.3f} at "
            f"{least.steering.strength:g}; raise --budget, or try smaller --strengths"
        )
    if not dry_run and engine.generator is not None:
        name = calibration.write(engine.generator.bundle, best.steering, place)
        print(f"atv-local: {place} is bundle {name} now", file=sys.stderr)


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
