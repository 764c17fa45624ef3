"""`atv-local eval`: how often steering is right, against what else one could do, and what it does elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_eval import Method
from atv_local.errors import AtvError, UsageError

if TYPE_CHECKING:
    from atv_eval import Summary
    from atv_local.answer import Engine

Format = Literal["md", "json", "csv"]


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA", help='JSON Lines or CSV files with "input", "output" and "choices", or folders of them.'
        ),
    ],
    *,
    column: options.Column = None,
    rows: Annotated[
        int | None,
        Panel.INPUT.option("--rows", metavar="N", min=1, help="Read only this many rows of each task."),
    ] = None,
    labels: Annotated[
        bool,
        Panel.INPUT.option(
            "--labels", help="Take the outputs of a task as the choices of its rows that have no choices of their own."
        ),
    ] = False,
    model: options.Model = None,
    bundle: options.Bundle = None,
    steering: options.SteeringOptions,
    method: Annotated[
        list[Method] | None,
        Panel.MEASURING.option(
            "--method",
            metavar="METHOD",
            help="Measure only this way to answer: base, steered, k-shot or bm25; repeatable.",
            show_default="all that are possible; k-shot and bm25 need --shots-from",
        ),
    ] = None,
    shots_from: Annotated[
        list[Path] | None,
        Panel.MEASURING.option(
            "--shots-from", metavar="FILE", help="Show rows of this file in the prompts of k-shot and bm25; repeatable."
        ),
    ] = None,
    shots: Annotated[
        int,
        Panel.MEASURING.option("--shots", metavar="N", min=1, help="Show this many rows in the prompts."),
    ] = 16,
    max_tokens: Annotated[
        int | None,
        Panel.MEASURING.option(
            "-n",
            "--max-tokens",
            metavar="N",
            min=1,
            help="Stop each answer after this many tokens.",
            show_default="as many as the longest right answer has",
        ),
    ] = None,
    whole: Annotated[
        bool,
        Panel.MEASURING.option("--whole", help="Write every answer to its end, even when it is wrong already."),
    ] = False,
    harm: Annotated[
        bool,
        Panel.MEASURING.option("--harm/--no-harm", help="Measure how steering changes answers to unrelated queries."),
    ] = True,
    unrelated: options.Unrelated = None,
    timed: Annotated[
        int,
        Panel.MEASURING.option(
            "--timed", metavar="N", min=0, help="Measure the time to the first token of this many queries."
        ),
    ] = 8,
    seed: Annotated[
        int,
        Panel.MEASURING.option(
            "--seed", metavar="N", min=0, help="Choose the rows shown and the random vectors by this seed."
        ),
    ] = 0,
    performance: options.EngineOptions,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Write answers and results to this folder; run the same command again to resume.",
        ),
    ] = None,
    form: Annotated[
        Format,
        Panel.OUTPUT.option("--format", help="Print the results in this format."),
    ] = "md",
) -> None:
    """Measure accuracy on rows with known answers, for the base model, steering and prompts with demonstrations."""
    if unrelated is not None and not harm:
        raise UsageError("--unrelated has no effect with --no-harm; leave one of them out")
    changes = steering.changes()

    import atv_local
    from atv_cli.screen import EvalProgress
    from atv_eval import EvalPlan, fingerprint, measure, read_tasks, read_unrelated, report
    from atv_local.data import parse_columns

    tasks = read_tasks(data, shots_from or [], parse_columns(column or []), rows, labels)
    showable = all(task.pool for task in tasks)
    chosen = list(dict.fromkeys(method or ()))
    chosen = chosen or [m for m in Method if showable or m in (Method.BASE, Method.STEERED)]
    steered = Method.STEERED in chosen
    queries = read_unrelated(unrelated) if steered and harm else []
    if not steered:
        performance = replace(performance, provider=None, precision=None)
    engine = atv_local.load(model, bundle, steered=steered, **asdict(performance))
    how = replace(engine.steering, **changes) if steered else atv_local.OFF
    if steered:
        how.apply(engine.vector("a query"))  # raises now if the target lacks a layer
    plan = EvalPlan(tasks, chosen, how, shots, seed, max_tokens, whole)
    with EvalProgress(plan) as view:
        try:
            records = measure(plan, engine, output, view.show)
        except KeyboardInterrupt:
            view.say("stopped; run the same command again to resume" if output else "stopped")
            raise
        summary = report.Summary(
            about=fingerprint(plan, engine) | {"model": engine.target.path.name, "threads": engine.target.n_threads},
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
    from atv_cli.optional_packages import require_extra
    from atv_local.data import replacing

    for suffix, text in texts.items():
        with replacing(folder / f"results.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    try:
        with require_extra("plot"):
            from atv_cli.screen import draw_scores
    except UsageError as error:
        print(f"atv-local: no picture: {error}", file=sys.stderr)
        return
    draw_scores(summary, folder / "results.png")
