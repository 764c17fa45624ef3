"""`atv-local eval`: how often steering is right, against what else one could do, and what it does elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atv_cli import options
from atv_eval import Method
from atv_local.errors import AtvError, UsageError

if TYPE_CHECKING:
    from atv_eval import Summary
    from atv_local.answer import Engine

Format = Literal["md", "json", "csv"]


def evaluate(
    data: Annotated[
        list[Path], typer.Argument(help='JSON Lines or CSV with "input", "output", "choices", or folders of them.')
    ],
    model: options.Model = None,
    bundle: options.Bundle = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for answers and results; the same command goes on where it was."),
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(help="Measure this; repeatable [default: base, steered and, with rows to show, the others]."),
    ] = None,
    shots_from: Annotated[
        list[Path] | None, typer.Option(help="Rows that the prompting baselines may show; repeatable.")
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="How many they show.")] = 16,
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each task.")] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Rows without choices choose among the outputs of their task.")
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option("-n", "--max-tokens", min=1, help="Of an answer [default: the longest label's].")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Write answers to their end, also those that are wrong already.")
    ] = False,
    column: Annotated[
        list[str] | None, typer.Option(help="What the data calls a part of a row, as input=question; repeatable.")
    ] = None,
    strength: options.Strength = None,
    layers: options.Layers = None,
    positions: options.Positions = None,
    unrelated: Annotated[
        Path | None, typer.Option(help="Unrelated queries, one a line [default: some of our own].")
    ] = None,
    harm: Annotated[bool, typer.Option(help="Measure what steering does to those.")] = True,
    timed: Annotated[int, typer.Option(min=0, help="Queries to time one by one; 0 times none.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Draws the rows shown and the random vectors.")] = 0,
    ctx_size: options.CtxSize = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    provider: options.Provider = None,
    precision: options.Precision = None,
    form: Annotated[Format, typer.Option("--format", help="Of the results on stdout.")] = "md",
) -> None:
    """Measure accuracy on rows with known answers: base model, steered, and prompts with demonstrations."""
    if unrelated is not None and not harm:
        raise UsageError("--unrelated names queries to measure harm on; drop it or --no-harm")
    changes = options.steering_changes(strength, layers, positions)

    import atv_local
    from atv_cli.screen import EvalProgress
    from atv_eval import EvalPlan, fingerprint, measure, read_tasks, read_unrelated, report
    from atv_local.data import Columns

    tasks = read_tasks(data, shots_from or [], Columns.parse(column or []), rows, labels)
    showable = all(task.pool for task in tasks)
    chosen = list(dict.fromkeys(method or ()))
    chosen = chosen or [m for m in Method if showable or m in (Method.BASE, Method.STEERED)]
    steered = Method.STEERED in chosen
    queries = read_unrelated(unrelated) if steered and harm else []
    engine = atv_local.load(
        model,
        bundle,
        steered=steered,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        provider=provider if steered else None,
        precision=precision if steered else None,
    )
    steering = replace(engine.steering, **changes) if steered else atv_local.OFF
    if steered:
        steering.apply(engine.vector("a query"))  # layers that this target lacks are found now
    plan = EvalPlan(tasks, chosen, steering, shots, seed, max_tokens, whole)
    with EvalProgress(plan) as view:
        try:
            records = measure(plan, engine, output, view.show)
        except KeyboardInterrupt:
            view.say("stopped; the same command goes on from here" if output else "stopped")
            raise
        summary = report.Summary(
            about=fingerprint(plan, engine)
            | {"model": engine.target.model.path.name, "threads": engine.target.n_threads},
            scores=report.score(records),
            differences=report.compare(records),
            first_token_ms=_timed(plan, engine, timed, view.say),
            harm=_harm(engine, queries, plan, view.say),
        )
    _tell_errors(records)
    texts = {
        "md": report.markdown(summary),
        "json": json.dumps(summary.as_dict(), indent=1, ensure_ascii=False) + "\n",
        "csv": report.as_csv(summary),
    }
    if output is not None:
        _write(output, texts, summary)
    print(texts[form], end="")


def _timed(plan: Any, engine: Engine, n: int, say: Any) -> Any:
    from atv_eval import first_token_ms

    if not n:
        return {}
    say("timing the first token")
    return first_token_ms(plan, engine, n)


def _harm(engine: Engine, queries: Sequence[str], plan: Any, say: Any) -> Any:
    from atv_eval import measure_harm

    if not queries or plan.steering.off:
        return {}
    say(f"{len(queries)} queries outside the tasks")
    try:
        found = measure_harm(engine, queries, [plan.steering], plan.seed)
    except AtvError as error:
        say(f"harm is not measured: {error}")
        return {}
    return dict(zip(("steered", "random vectors of the same norms"), found, strict=True))


def _tell_errors(records: Sequence[Any]) -> None:
    failed = [record for record in records if record.error]
    if failed:
        first = failed[0]
        print(
            f"atv-local: {len(failed)} answers failed and count as wrong; the first is row {first.row + 1} of "
            f"{first.task!r}, {first.method}: {first.error}",
            file=sys.stderr,
        )


def _write(folder: Path, texts: dict[str, str], summary: Summary) -> None:
    from atv_cli.extras import need
    from atv_local.data import replacing

    for suffix, text in texts.items():
        with replacing(folder / f"results.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    try:
        with need("plot"):
            from atv_cli.screen import pictures
    except UsageError as error:
        print(f"atv-local: no picture: {error}", file=sys.stderr)
        return
    pictures.draw_scores(summary, folder / "results.png")
