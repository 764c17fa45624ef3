"""`atv-local eval`: scores and time of steering beside the alternatives, and its harm to unrelated queries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line
from atv_cli.given_options import was_given
from atv_cli.help_pages import Panel
from atv_eval import Method, Metric
from atv_local.errors import UsageError

if TYPE_CHECKING:
    from atv_eval import EvalResult

Format = Literal["md", "json", "csv"]


def evaluate(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA", help='JSON or CSV files with "input", "output" and "choices", or folders of them.'
        ),
    ],
    *,
    column: options.Column = None,
    skip_bad_rows: options.SkipBadRows = False,
    rows: Annotated[
        int | None,
        Panel.INPUT.option("--rows", metavar="N", min=1, help="Use only the first N rows of each task."),
    ] = None,
    labels: Annotated[
        bool,
        Panel.INPUT.option(
            "--labels", help='Use all outputs of a task as the choices of its rows that have no "choices".'
        ),
    ] = False,
    model: options.ModelOption = None,
    bundle: options.BundlesOption = None,
    steering: options.SteeringOptions,
    vectors: options.ControlVectorOptions,
    method: Annotated[
        list[Method] | None,
        Panel.MEASURING.option(
            "--method",
            metavar="METHOD",
            help=f"Measure only this method: {', '.join(Method)}; repeatable.",
            show_default="all that are possible; the last five need --shots-from",
        ),
    ] = None,
    metric: Annotated[
        list[Metric] | None,
        Panel.MEASURING.option(
            "--metric",
            metavar="METRIC",
            help=f"Score answers by this metric: {', '.join(Metric)}; repeatable. The first that suits a task decides.",
            show_default="chosen by each task's outputs",
        ),
    ] = None,
    shots_from: Annotated[
        list[Path] | None,
        Panel.MEASURING.option(
            "--shots-from",
            metavar="FILE",
            help="Take rows from this file to show in prompts, and for other methods to learn from; repeatable.",
        ),
    ] = None,
    instructions: Annotated[
        Path | None,
        Panel.MEASURING.option(
            "--instructions",
            metavar="FILE",
            help="Begin the prompts of zero-shot, k-shot and bm25 with a sentence for each task from this JSON file.",
            show_default='the "instruction" of the rows; always the labels or keys of an answer',
        ),
    ] = None,
    static: Annotated[
        Path | None,
        Panel.MEASURING.option(
            "--static",
            metavar="FILE",
            help="Steer with this learned control vector in the method static; or the folder baselines of "
            "`train --baselines`, which has one for each task.",
            show_default="the mean of the bundle's vectors over rows of --shots-from",
        ),
    ] = None,
    shots: Annotated[
        int,
        Panel.MEASURING.option(
            "--shots", metavar="N", min=1, help="Put this many demonstrations into a k-shot or bm25 prompt."
        ),
    ] = 16,
    max_tokens: Annotated[
        int | None,
        Panel.MEASURING.option(
            "-n",
            "--max-tokens",
            metavar="N",
            min=1,
            help="Stop each answer after this many tokens.",
            show_default="a few more than the longest right answer has; for texts a quarter more",
        ),
    ] = None,
    whole: Annotated[
        bool,
        Panel.MEASURING.option(
            "--whole", help="Generate every label to its end too, instead of stopping once its score is known."
        ),
    ] = False,
    harm: Annotated[
        bool,
        Panel.MEASURING.option("--harm/--no-harm", help="Measure how steering changes answers to unrelated queries."),
    ] = True,
    unrelated: options.Unrelated = None,
    timed: Annotated[
        int,
        Panel.MEASURING.option(
            "--timed", metavar="N", min=0, help="Measure the time to the first token on this many queries."
        ),
    ] = 8,
    seed: Annotated[
        int,
        Panel.MEASURING.option(
            "--seed", metavar="N", min=0, help="Use this seed to choose demonstrations and random vectors."
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
        Format | None,
        Panel.OUTPUT.option(
            "--format", help="Print the results in this format.", show_default="tables on a terminal, else md"
        ),
    ] = None,
) -> None:
    """Score answers to rows with known outputs: steering beside prompts and other alternatives."""
    if was_given(context, "shots") and not shots_from:
        raise UsageError("--shots has no effect without --shots-from; add a file of demonstrations, or leave it out")
    import atv_eval
    from atv_cli.screen import EvalProgress, print_results
    from atv_local.data import parse_columns

    with EvalProgress() as view:
        try:
            result = atv_eval.evaluate(
                data,
                model=model,
                bundle=bundle or None,
                output=output,
                columns=parse_columns(column or []),
                skip_bad_rows=skip_bad_rows,
                rows=rows,
                labels=labels,
                **steering.changes(),
                control_vectors=vectors.files(),
                methods=method or (),
                metrics=metric or (),
                shots_from=shots_from or (),
                static=static,
                shots=shots,
                instructions=instructions,
                max_tokens=max_tokens,
                whole=whole,
                harm=harm,
                unrelated=unrelated,
                timed=timed,
                seed=seed,
                **performance.arguments(),
                hooks=atv_eval.EvalHooks(view.begin, view.show, lambda text: view.say(for_command_line(text, context))),
            )
        except KeyboardInterrupt:
            view.say("stopped; run the same command again to resume" if output else "stopped")
            raise
    _report_failures(result, context)
    if output is not None:
        _draw(result, output)
    if form is None and sys.stdout.isatty():
        print_results(result)
        return
    texts = {"md": result.as_markdown, "json": result.as_json, "csv": result.as_csv}
    print(texts[form or "md"](), end="")


def _report_failures(result: EvalResult, context: typer.Context) -> None:
    if result.failures:
        first = result.failures[0]
        problem = for_command_line(first.error or "", context)
        print(
            f"atv-local: {len(result.failures)} answers failed and count as wrong; the first is row {first.row + 1} of "
            f"{first.task!r}, {first.method}: {problem}",
            file=sys.stderr,
        )


def _draw(result: EvalResult, folder: Path) -> None:
    from atv_cli.optional_packages import require_extra

    try:
        with require_extra("plot"):
            from atv_cli.screen import draw_scores
        draw_scores(result, folder / "results.png")
    except UsageError as error:
        print(f"atv-local: no picture: {error}", file=sys.stderr)
