"""`atv-local batch`: answer a file of queries, of any size."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from atv_cli import options
from atv_cli.constraint_options import ConstraintOptions
from atv_cli.error_messages import for_command_line
from atv_cli.help_pages import Panel
from atv_cli.load_engine import check_task_options
from atv_local.batch import DEFAULT_PARALLEL, MAX_PARALLEL
from atv_local.data import reading
from atv_local.errors import DataError, UsageError

if TYPE_CHECKING:
    from atv_local.batch import AnswerSettings, RowResult
    from atv_local.data import RowRequest

_STDIN = Path("-")
_NOT_WRITTEN = (".tsv", ".tab", ".gz", ".bz2", ".xz", ".txt", ".xlsx", ".xls", ".ods", ".parquet")
"""Endings that say another format than the output has."""


def batch(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Rows to answer: JSON, .csv, .tsv or .txt, or one of these compressed; - is stdin."
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write: .csv, else JSON Lines.")],
    *,
    column: options.Column = None,
    model: options.ModelOption = None,
    bundle: options.BundlesOption = None,
    steering: options.SteeringOptions,
    off: options.OffOption = False,
    vectors: options.ControlVectorOptions,
    told: options.TaskOptions,
    sampling: options.RowSamplingOptions,
    constraint: ConstraintOptions,
    performance: options.EngineOptions,
    parallel: Annotated[
        int,
        Panel.PERFORMANCE.option(
            metavar="N",
            min=1,
            max=MAX_PARALLEL,
            help="Answer up to this many rows at a time, as far as they fit in twice the context size.",
        ),
    ] = DEFAULT_PARALLEL,
    executor: Annotated[
        str | None,
        Panel.PERFORMANCE.option(
            "--executor",
            metavar="NAME",
            help="Run with this plug-in, such as ray for a Ray cluster.",
            show_default="this process",
        ),
    ] = None,
    executor_option: Annotated[
        list[str] | None,
        Panel.PERFORMANCE.option(
            "--executor-option",
            metavar="NAME=VALUE",
            help="Set an option of the plug-in, such as workers=4; repeatable.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        Panel.OUTPUT.option("--strict", help="Exit with code 1 if a row could not be answered."),
    ] = False,
    overwrite: Annotated[
        bool,
        Panel.OUTPUT.option(
            "--overwrite",
            help="Answer all rows again and replace the output, once the new one is complete.",
        ),
    ] = False,
) -> None:
    """Answer every row of a file, in the same order.

    A row is {"input": "..."}. If it also has "system" or "max_tokens", these override the options for that row, and so
    do "task", where the bundle has an instruction for it, and "instruction" beside a "task" or "choices". Each
    output row is the row with "line", "text", "finish_reason" and "tokens" added or replaced; in a CSV file the counts
    are "prompt_tokens" and "generated_tokens". With --choices there is also "probabilities". A row that cannot be
    answered is reported on stderr and has no output row.

    To resume a run that was stopped, repeat the same command. Until all rows are answered, their answers are in
    OUTPUT.partial, as JSON Lines. Rows added to the input in the meantime are answered too.
    """
    executor_options = _options(executor_option or [])
    if executor_options and executor is None:
        raise UsageError("--executor-option is for a plug-in; add --executor NAME, such as --executor ray")
    check_task_options(told, off=off)
    changes = steering.changes()
    _check_output(file, output)
    system = sampling.system
    if system is not None and not system.isascii() and system.encode("utf-8", "replace").decode() != system:
        raise UsageError("the system message is not UTF-8 text")

    from atv_cli.screen import BatchProgress
    from atv_local.batch import (
        ADDED,
        ADDED_COLUMNS,
        BUNDLE,
        CONTROL_VECTORS,
        PROBABILITIES,
        AnswerSettings,
        as_csv_row,
        load_executor,
        skip_answered,
    )
    from atv_local.data import ResumableOutput, is_compressed, parse_columns, read_requests

    execute = None if executor is None else load_executor(executor, executor_options)
    settings = AnswerSettings(
        model=model,
        bundle=bundle or None,
        off=off,
        control_vectors=vectors.files(),
        changes=changes,
        parallel=parallel,
        **told.arguments(),
        **sampling.arguments(),
        **constraint.arguments(),
        **performance.arguments(),
    )
    columns = parse_columns(column or [])
    identity = settings.identity() | ({"columns": columns} if columns else {})
    added, as_row = (ADDED_COLUMNS, as_csv_row) if output.suffix.lower() == ".csv" else (ADDED, None)
    with (
        _opened(file) as source,
        ResumableOutput(output, identity, overwrite=overwrite, fields=added, as_row=as_row) as partial,
    ):
        notes: list[str] = []
        rows = read_requests(source, file, columns, notes.append)
        answered, skipped = skip_answered(rows, partial)
        optional = {
            CONTROL_VECTORS: bool(settings.control_vectors),
            PROBABILITIES: settings.choices is not None,
            BUNDLE: len(bundle or ()) > 1,
        }
        names, noted = {*ADDED, *added, *(name for name, is_added in optional.items() if is_added)}, set[str]()
        size = os.fstat(source.fileno()).st_size if file.is_file() and not is_compressed(file) else None
        with BatchProgress(size, answered, skipped) as view:
            try:
                with closing(_answers(settings, rows, execute, view.say, notes)) as results:
                    for result in results:
                        for name in (names - noted) & result.request.fields.keys():
                            noted.add(name)
                            notes.append(f"{file} has a column {name!r}, which the output replaces by its own")
                        while notes:
                            view.say(for_command_line(notes.pop(0), context))
                        if result.record is not None:
                            partial.append(result.record)
                            view.show(result)
                        else:
                            problem = for_command_line(result.error, context)
                            view.show(result, f"{file}:{result.request.line}: {problem}")
            except KeyboardInterrupt:
                saved = f"{partial.path} has {view.counts}; run the same command to resume"
                view.say(f"stopped; {saved if view.answered else 'nothing was answered yet'}")
                sys.exit(130)
        if not view.answered:
            problem = f"no row of {file} could be answered" if view.skipped else f"{file} has no rows"
            raise DataError(f"{problem}, so {output} is not written")
        partial.finish()
    view.say_end()
    print(output)
    if strict and view.skipped:
        sys.exit(1)


def _check_output(file: Path, output: Path) -> None:
    if file.exists() and any(place.exists() and file.samefile(place) for place in (output, _partial(output))):
        raise UsageError(f"{file} is the input and would be replaced by its answers; choose another output")
    if output.suffix.lower() in _NOT_WRITTEN:
        raise UsageError(f"{output} cannot be written, only CSV and JSON Lines; name the output .csv or .jsonl")


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial") if output.name else output


def _answers(
    settings: AnswerSettings,
    rows: Iterator[RowRequest],
    execute: Callable[..., Iterator[RowResult]] | None,
    say: Callable[[str], None],
    notes: list[str],
) -> Generator[RowResult]:
    from atv_local.batch import Answerer

    if execute is None:
        answerer = Answerer(settings)
        notes += [answerer.note] if answerer.note else []
        yield from answerer(rows)
    else:
        yield from execute(settings, rows, say=say)


def _options(given: list[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary."""
    for text in given:
        if not text.partition("=")[0].strip() or "=" not in text:
            raise UsageError(f"--executor-option {text!r} is not NAME=VALUE, such as workers=4")
    return {name.strip(): value.strip() for name, _, value in (text.partition("=") for text in given)}


def _opened(file: Path) -> BinaryIO:
    with reading(file):
        return sys.stdin.buffer if file == _STDIN else file.open("rb")
