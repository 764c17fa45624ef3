"""`atv-local train`: task rows to a run folder with a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line
from atv_cli.given_options import was_given
from atv_cli.help_pages import Panel
from atv_cli.training_options import TrainingOptions
from atv_local.errors import UsageError
from atv_local.generator import Pooling
from atv_local.text import one_line, some_of
from atv_local.vectors import Positions
from atv_train import TargetDtype, Tuning

if TYPE_CHECKING:
    from atv_train import TrainingHooks, TrainingResult


def train(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA",
            help='JSON or CSV files with "input" and "output", or folders of them; each file is one task.',
        ),
    ] = None,
    *,
    column: options.Column = None,
    skip_bad_rows: options.SkipBadRows = False,
    templates: Annotated[
        Path | None,
        Panel.INPUT.option(
            "--templates",
            metavar="FILE",
            help='Word prompts as in this JSON file: {"task": ["Classify: {input}"]}; "*" is every other task.',
        ),
    ] = None,
    instructions: Annotated[
        Path | None,
        Panel.INPUT.option(
            "--instructions",
            metavar="FILE",
            help='Put what a task asks before its inputs, from this JSON file: {"task": "What to do."}, or a list.',
            show_default='the "instruction" of the rows',
        ),
    ] = None,
    keep_rows: Annotated[
        bool,
        Panel.OUTPUT.option(
            "--keep-rows/--no-keep-rows", help="Keep rows in the run, so that --from can teach it more later."
        ),
    ] = True,
    max_row_tokens: Annotated[
        int,
        Panel.INPUT.option(
            "--max-row-tokens", metavar="N", min=4, help="Leave out rows that are longer than this many tokens."
        ),
    ] = 1024,
    valid: Annotated[
        list[Path] | None,
        Panel.INPUT.option(
            "--valid",
            metavar="FILE",
            help="Validate on the rows of this file after every epoch; repeatable.",
            show_default="a tenth of the rows",
        ),
    ] = None,
    hold_out: Annotated[
        bool,
        Panel.INPUT.option(
            "--hold-out/--no-hold-out", help="Hold out a tenth of the rows for validation if --valid is not given."
        ),
    ] = True,
    unrelated: Annotated[
        Path | None,
        Panel.INPUT.option(
            "--unrelated",
            "--outside",
            metavar="FILE",
            help="Read queries that must not be steered from this file, for the gate and --harmless, one per line.",
            show_default="packaged queries",
        ),
    ] = None,
    start: Annotated[
        str | None,
        Panel.MODEL.option(
            "--from",
            metavar="RUN|BUNDLE",
            help="Go on from this run or bundle: teach it new rows, a new task or corrections; a run does not forget.",
            show_default="a backbone that knows no task",
        ),
    ] = None,
    model: options.ModelOption = None,
    template_variable: Annotated[
        list[str] | None, options.template_variable("enable_thinking=false if answers would begin with a thought")
    ] = None,
    weights: Annotated[
        str | None,
        Panel.MODEL.option(
            "--weights",
            metavar="NAME",
            help="Train with these unquantised weights of the target: a folder or a Hugging Face model.",
            show_default="the GGUF, dequantised",
        ),
    ] = None,
    positions: Annotated[
        Positions | None,
        Panel.STEERING.option(
            "--positions", help=options.POSITIONS_HELP, show_default="decode, or all with --prompt-vector"
        ),
    ] = None,
    prompt_vector: Annotated[
        bool,
        Panel.STEERING.option(
            "--prompt-vector",
            help="Make a second vector for each query, which steers the tokens of the prompt before the last one.",
        ),
    ] = False,
    layers: Annotated[
        str | None,
        Panel.STEERING.option(
            "--layers", metavar="A-B", help="Steer only these layers, such as 4-20.", show_default="all"
        ),
    ] = None,
    scale: Annotated[
        float,
        Panel.STEERING.option(
            "--scale",
            metavar="FLOAT",
            help="Multiply all task vectors by this constant; the exported graph includes it.",
        ),
    ] = 1.0,
    backbone: Annotated[
        str | None,
        Panel.GENERATOR.option(
            "--backbone",
            metavar="NAME",
            help="Build the generator on this encoder: a folder or a Hugging Face model.",
            show_default="all-MiniLM-L6-v2",
        ),
    ] = None,
    tuning: Annotated[
        Tuning,
        Panel.GENERATOR.option(
            "--tuning", help="Train the whole backbone, only low-rank adapters in it (LoRA), or nothing in it."
        ),
    ] = "full",
    max_query_tokens: Annotated[
        int | None,
        Panel.GENERATOR.option(
            "--max-query-tokens",
            metavar="N",
            min=3,
            help="Let the generator read this many tokens of a query, as far as its backbone has positions.",
            show_default="256",
        ),
    ] = None,
    pooling: Annotated[
        Pooling,
        Panel.GENERATOR.option(
            "--pooling",
            help="Pool the hidden states of a query: their mean, the last, the first (cls), or last and mean (mix).",
        ),
    ] = "mean",
    rank: Annotated[
        int | None,
        Panel.GENERATOR.option(
            "--rank",
            metavar="N",
            min=1,
            help="Make the expansion, the layer that writes vectors, a low-rank one of this rank.",
            show_default="full rank",
        ),
    ] = None,
    static_vector: Annotated[
        bool,
        Panel.GENERATOR.option(
            "--static-vector",
            help="Learn one vector for all rows too, which then steers tasks told by --instruction that are unlike "
            "those trained on.",
        ),
    ] = False,
    settings: TrainingOptions,
    dtype: Annotated[
        TargetDtype,
        Panel.PERFORMANCE.option(
            "--dtype", help="Run the target in this data type; auto picks the faster one on this machine."
        ),
    ] = "auto",
    cache: Annotated[
        float | None,
        Panel.PERFORMANCE.option(
            "--cache",
            metavar="GB",
            min=0,
            help="Cache the target's keys and values of prompts in at most this much memory.",
            show_default="half of the free memory",
        ),
    ] = None,
    keep_prefixes: Annotated[
        bool,
        Panel.PERFORMANCE.option(
            "--keep-prefixes/--no-keep-prefixes",
            help="Save the evaluated prompts, up to 8 GB in the user's cache folder, for --resume and later runs.",
        ),
    ] = True,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "-o", "--output", metavar="FOLDER", help="Write the run to this folder; required unless --resume is given."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        Panel.OUTPUT.option("--overwrite", help="Replace an existing run in -o once the new one has a checkpoint."),
    ] = False,
    resume: Annotated[
        Path | None,
        Panel.OUTPUT.option("--resume", metavar="FOLDER", help="Resume the run in this folder; takes no other option."),
    ] = None,
    baselines: Annotated[
        bool,
        Panel.OUTPUT.option("--baselines", help="Measure static, averaged and random vectors too, for comparison."),
    ] = False,
) -> None:
    """Train a generator for a GGUF on your rows.

    Ctrl-C stops training and saves what was learned; --resume continues from there.
    """
    from atv_cli.optional_packages import require_extra
    from atv_local.data import parse_columns, parse_template_variables
    from atv_local.names import resolve_model
    from atv_train import check_new_run, check_resumed_run, check_start

    is_first = os.environ.get("RANK", "0") == "0"  # of several processes; it alone looks after the output
    if resume is not None:
        for name in context.params:
            if name != "resume" and was_given(context, name):
                raise UsageError(f"--resume takes all settings from {resume}; leave out `{name}`")
        if is_first:
            check_resumed_run(resume)
            typer.echo(f"resuming   {one_line(str(resume))}: loading PyTorch, the rows and the models", err=True)
        with require_extra("train"):
            from atv_train import resume as resume_run
        _work(context, resume, lambda hooks: resume_run(resume, hooks))
        return
    if output is None or not data:
        missing = "-o FOLDER" if output is None else "a file of rows"
        raise UsageError(f"training needs {missing}; see atv-local train --help")
    columns = parse_columns(column or [])
    variables = parse_template_variables(template_variable or ())
    target = None if start is not None and model is None else resolve_model(model)
    if is_first:
        if start is not None:
            check_start(start)
        others = [file for file in (templates, instructions, unrelated) if file is not None]
        check_new_run(
            data,
            output,
            valid=valid or [],
            others=others,
            backbone=backbone,
            weights=weights,
            overwrite=overwrite,
        )
        names = one_line(some_of([str(file) for file in data]))
        typer.echo(f"preparing  {names}: loading PyTorch, the rows and the models", err=True)
    with require_extra("train"):
        from atv_train import train as train_run
    _work(
        context,
        output,
        lambda hooks: train_run(
            data,
            output,
            model=target,
            valid=valid or [],
            hold_out=hold_out,
            start=start,
            keep_rows=keep_rows,
            columns=columns,
            skip_bad_rows=skip_bad_rows,
            templates=templates,
            instructions=instructions,
            weights=weights,
            positions=positions,
            prompt_vector=prompt_vector,
            layers=layers,
            backbone=backbone,
            tuning=tuning,
            pooling=pooling,
            rank=rank,
            static_vector=static_vector,
            scale=scale,
            unrelated=unrelated,
            baselines=baselines,
            max_row_tokens=max_row_tokens,
            max_query_tokens=max_query_tokens,
            cache=cache,
            keep_prefixes=keep_prefixes,
            dtype=dtype,
            template_variables=variables,
            overwrite=overwrite,
            hooks=hooks,
            **asdict(settings),
        ),
    )


def _work(context: typer.Context, output: Path, train: Callable[[TrainingHooks], TrainingResult]) -> None:
    from atv_cli.screen import TrainingProgress

    with (
        _Interrupt() as interrupt,
        TrainingProgress(interrupt.requested, lambda text: for_command_line(text, context)) as view,
    ):
        result = train(view.hooks)
    learned = result.metrics
    if interrupt.requested():
        saved = f"what was learned is saved; to resume: atv-local train --resume {output}"
        view.say(f"stopped; {saved if learned else 'nothing was learned yet'}")
        sys.exit(130)
    if learned:
        view.say_best(learned)
    if result.learned is not None:
        view.say_learned(result.learned)
    if view.speaks:
        print(output)


class _Interrupt:
    """The first Ctrl-C stops training after its step; a second one, or SIGTERM, ends it at once.

    SIGTERM becomes an exception, so that temporary files are removed. Then the process ends without Python's own
    cleaning up, which aborts while a thread of PyTorch is in Python code.
    """

    def __init__(self) -> None:
        self._requested = False
        self._exit_code: int | None = None

    def requested(self) -> bool:
        return self._requested

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._on_interrupt)
        self._term_before = signal.signal(signal.SIGTERM, self._on_terminate)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        signal.signal(signal.SIGTERM, self._term_before)
        if self._exit_code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._exit_code)

    def _on_interrupt(self, *_: object) -> None:
        self._requested = True
        if os.environ.get("WORLD_SIZE", "1") == "1":  # a launcher passes the same Ctrl-C on a second time
            signal.signal(signal.SIGINT, self._before)

    def _on_terminate(self, number: int, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._term_before)
        self._exit_code = 128 + number
        sys.exit(self._exit_code)
