"""`atv-local eval`: how often steering is right, against what else one could do, and what it does elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atv_cli.run import parse_layers, steering_of
from atv_eval.method import Method
from atv_local.errors import DataError, UsageError
from atv_local.providers import Precision, Provider
from atv_local.steering import Positions

if TYPE_CHECKING:
    from atv_eval.plan import Task
    from atv_eval.report import Summary
    from atv_local.engine import Engine
    from atv_local.rows import Columns

Format = Literal["md", "json", "csv"]


def evaluate(
    data: Annotated[
        list[Path], typer.Argument(help='JSON Lines or CSV with "input", "output", "choices", or folders of them.')
    ],
    model: Annotated[Path | None, typer.Option("-m", "--model", help="GGUF [default: the embedded model].")] = None,
    bundle: Annotated[Path | None, typer.Option("-g", "--bundle", help="Bundle [default: the demo bundle].")] = None,
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
    strength: Annotated[float | None, typer.Option("--strength", help="Factor on the vector [default: 1].")] = None,
    layers: Annotated[str | None, typer.Option("--layers", metavar="A-B", help="Steer only these layers.")] = None,
    positions: Annotated[
        Positions | None, typer.Option("--positions", help="Which tokens to steer [default: as trained].")
    ] = None,
    general: Annotated[
        Path | None, typer.Option(help="Queries outside the tasks, one a line [default: some of our own].")
    ] = None,
    harm: Annotated[bool, typer.Option(help="Measure what steering does to those.")] = True,
    timed: Annotated[int, typer.Option(min=0, help="Queries to time one by one; 0 times none.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Draws the rows shown and the random vectors.")] = 0,
    ctx_size: Annotated[int | None, typer.Option("-c", "--ctx-size", min=1, help="Context [default: 2048].")] = None,
    threads: Annotated[int | None, typer.Option("-t", "--threads", min=1, help="[default: all cores].")] = None,
    gpu_layers: Annotated[int, typer.Option("-ngl", "--gpu-layers", help="Layers to offload; -1 is all.")] = -1,
    provider: Annotated[
        Provider | None, typer.Option(help="Where the generator runs [default: the first that works].")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Which graph of the bundle it runs [default: what suits the provider].")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Of the results on stdout.")] = "md",
) -> None:
    """Measure accuracy on rows with known answers: base model, steered, and prompts with demonstrations."""
    layer_range = parse_layers(layers) if layers is not None else None

    import atv_local
    from atv_cli.eval_view import View
    from atv_eval import report
    from atv_eval.measure import fingerprint, measure
    from atv_eval.plan import Plan
    from atv_local.rows import Columns

    tasks = _tasks(data, shots_from or [], Columns.parse(column or []), rows, labels)
    showable = all(task.pool for task in tasks)
    chosen = list(dict.fromkeys(method or ()))
    chosen = chosen or [m for m in Method if showable or m in (Method.BASE, Method.STEERED)]
    steered = Method.STEERED in chosen
    queries = _general(general) if steered and harm else []
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
    steering = steering_of(engine, not steered, strength, layer_range, positions)
    if steered:
        steering.apply(engine.vector("a query"))  # layers that this target lacks are found now
    plan = Plan(tasks, chosen, steering, shots, seed, max_tokens, whole)
    with View(plan) as view:
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


def _tasks(
    data: Sequence[Path], shots_from: Sequence[Path], columns: Columns, rows: int | None, labels: bool
) -> list[Task]:
    """Rows by the name of their task, in the order of the files."""
    from atv_eval.plan import MAX_LABELS, Task
    from atv_local.rows import Row, data_files, read_rows

    pool = [row for file in data_files(shots_from) for row in read_rows(file, columns).rows]
    found: dict[str, list[Row]] = {}
    for row in (row for file in data_files(data) for row in read_rows(file, columns).rows):
        found.setdefault(row.task, []).append(row)
    tasks = []
    for name, some in found.items():
        shown, asked = [row for row in pool if row.task == name], some[:rows]
        if labels:
            outputs = tuple(dict.fromkeys(row.output for row in [*shown, *some]))
            if len(outputs) > MAX_LABELS:
                raise DataError(f"task {name!r} has {len(outputs)} outputs, too many for labels; leave --labels out")
            asked = [row if row.choices else row.model_copy(update={"choices": outputs}) for row in asked]
        if common := {row.input for row in asked} & {row.input for row in shown}:
            text = next(iter(common))[:60]
            raise DataError(f"task {name!r}: {len(common)} rows are among those to show, such as {text!r}")
        tasks.append(Task.of(name, asked, shown))
    return tasks


def _general(path: Path | None) -> list[str]:
    from atv_local.general import measured, read_general

    return measured(read_general(None)) if path is None else read_general(path)


def _timed(plan: Any, engine: Engine, n: int, say: Any) -> Any:
    from atv_eval.cost import first_token_ms

    if not n:
        return {}
    say("timing the first token")
    return first_token_ms(plan, engine, n)


def _harm(engine: Engine, queries: Sequence[str], plan: Any, say: Any) -> Any:
    from atv_eval.harm import measure_harm

    if not queries or plan.steering.off:
        return {}
    say(f"{len(queries)} queries outside the tasks")
    found = measure_harm(engine, queries, [plan.steering], plan.seed)
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
    from atv_local.files import replacing

    for suffix, text in texts.items():
        with replacing(folder / f"results.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    try:
        with need("plot"):
            from atv_cli import pictures
    except UsageError as error:
        print(f"atv-local: no picture: {error}", file=sys.stderr)
        return
    pictures.draw_scores(summary, folder / "results.png")
