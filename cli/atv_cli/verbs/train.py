"""`atv-local train`: task rows to a run folder with a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from atv_cli import options
from atv_local.data import reading
from atv_local.errors import DataError, UsageError
from atv_local.vectors import Positions, parse_layers

if TYPE_CHECKING:
    from atv_train import Job

Pooling = Literal["mean", "last", "cls", "mix"]
Tuning = Literal["full", "lora", "frozen"]


def train(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Argument(help='JSON Lines or CSV with "input" and "output", or folders of them; one file is one task.'),
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="GGUF of the target to teach.", **options.NAME)
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run to write.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder; takes no other option.")] = None,
    valid: Annotated[
        list[Path] | None, typer.Option(help="Rows to measure after every epoch; repeatable [default: a tenth].")
    ] = None,
    hold_out: Annotated[bool, typer.Option(help="Without --valid, measure on a tenth of the rows.")] = True,
    column: Annotated[
        list[str] | None, typer.Option(help="What the data calls a part of a row, as input=question; repeatable.")
    ] = None,
    templates: Annotated[
        Path | None, typer.Option(help='JSON with wordings by task: {"task": ["Classify: {input}"], "*": [...]}.')
    ] = None,
    positions: Annotated[Positions, typer.Option(help="Tokens that are steered.")] = Positions.DECODE,
    layers: Annotated[str | None, typer.Option(metavar="A-B", help="Layers to steer [default: all].")] = None,
    weights: Annotated[
        str | None, typer.Option(help="The target unquantised, folder or hub id [default: the GGUF, dequantised].")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Folder or hub id of the generator's backbone [default: all-MiniLM-L6-v2].")
    ] = None,
    tuning: Annotated[Tuning, typer.Option(help="How much of the backbone is trained.")] = "full",
    pooling: Annotated[Pooling, typer.Option(help="How a query's states become one.")] = "mean",
    rank: Annotated[int | None, typer.Option(min=1, help="Bottleneck of the expansion [default: none].")] = None,
    scale: Annotated[float, typer.Option(help="Constant factor on the vector.")] = 1.0,
    epochs: Annotated[int, typer.Option(min=0, help="Passes over the rows; 0 chooses by their number.")] = 0,
    batch_size: Annotated[int, typer.Option(min=0, help="Rows per step and process; 0 chooses.")] = 0,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the expansion.")] = 2e-3,
    backbone_learning_rate: Annotated[float, typer.Option(min=0, help="Of the backbone.")] = 1e-4,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without better validation before stopping.")] = 4,
    strengths: Annotated[
        tuple[float, float], typer.Option(help="Range a row's strength is drawn from in training.")
    ] = (1.0, 1.0),
    harmless: Annotated[float, typer.Option(min=0, help="Weight of the do-no-harm term.")] = 0.0,
    unrelated: Annotated[
        Path | None, typer.Option(help="Unrelated queries for that term, one a line [default: our own].")
    ] = None,
    contrastive: Annotated[float, typer.Option(min=0, help="Weight of the contrastive term.")] = 0.0,
    baselines: Annotated[bool, typer.Option(help="Measure static, averaged and random vectors too.")] = False,
    max_tokens: Annotated[int, typer.Option(min=4, help="Longer rows are left out.")] = 1024,
    cache: Annotated[
        float | None, typer.Option(min=0, help="GB of memory for kept prefixes [default: half of what is free].")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the target; auto is what the machine does fast.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Order of the rows, dropout, draws.")] = 0,
) -> None:
    """Train a generator for a GGUF on your rows. Ctrl-C keeps what was learned; --resume goes on from there."""
    from atv_cli.extras import need

    with need("train"):
        from atv_local.data import Columns
        from atv_local.names import resolve_model
        from atv_train import Job, Settings
        from atv_train import training_run as training
    if resume is not None:
        given = [name for name in context.params if name != "resume" and _was_given(context, name)]
        if given:
            raise UsageError(f"--resume takes everything from {resume}; leave out {given[0]}")
        _work(resume, lambda hooks: training.resume(resume, hooks))
        return
    if model is None or output is None or not data:
        missing = "-m MODEL" if model is None else "-o FOLDER" if output is None else "a file of rows"
        raise UsageError(f"training needs {missing}; see atv-local train --help")
    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        backbone_learning_rate=backbone_learning_rate,
        patience=patience,
        strengths=strengths,
        contrastive=contrastive,
        harmless=harmless,
        seed=seed,
    )
    job = Job(
        model=resolve_model(model).absolute(),
        data=[path.absolute() for path in data],
        valid=[path.absolute() for path in valid or []],
        hold_out=hold_out,
        columns=Columns.parse(column or []),
        templates=_templates(templates),
        weights=_place(weights),
        positions=positions,
        layers=None if layers is None else parse_layers(layers),
        backbone=_place(backbone),
        tuning=tuning,
        pooling=pooling,
        rank=rank,
        scale=scale,
        max_tokens=max_tokens,
        unrelated=unrelated.absolute() if unrelated else None,
        baselines=baselines,
        cache_bytes=None if cache is None else int(cache * 1e9),
        dtype=dtype,
        settings=settings,
    )
    _check(job)
    _work(output, lambda hooks: training.run(job, output, hooks))


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _place(name: str | None) -> str | None:
    """A folder by its whole path, so that a run can be resumed from anywhere; anything else is a hub id."""
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name


def _check(job: Job) -> None:
    low, high = job.settings.strengths
    if not 0 <= low <= high <= 10:
        raise UsageError(f"strengths {low:g} {high:g} are not a range within 0 to 10")
    if job.unrelated is not None and not job.settings.harmless:
        raise UsageError("--unrelated is for the do-no-harm term; give it a weight with --harmless, such as 1")


def _templates(path: Path | None) -> dict[str, list[str]] | None:
    """Wordings by task.

    Raises:
        DataError: no such file, not JSON of that shape, or a wording without `{input}`.
    """
    if path is None:
        return None
    with reading(path):
        text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    lists = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(words, list) and words and all(isinstance(word, str) for word in words) for words in lists):
        raise DataError(f'{path} is not of the form {{"task": ["wording with {{input}}", ...]}}')
    for wording in (wording for words in found.values() for wording in words):
        if "{input}" not in wording:
            raise DataError(f"{path}: the wording {wording[:60]!r} has no {{input}}")
    return cast("dict[str, list[str]]", found)


def _work(output: Path, train: Any) -> None:
    from atv_cli.screen import TrainingProgress

    with _Interrupt() as interrupt, TrainingProgress(interrupt.requested) as view:
        learned = train(view.hooks)
    if interrupt.requested():
        kept = f"{output} holds what was learned; go on with atv-local train --resume {output}"
        view.say(f"stopped; {kept if learned else 'nothing was learned yet'}")
        sys.exit(130)
    if learned:
        view.say_best(learned)
    if view.speaks:
        print(output)


class _Interrupt:
    """The first Ctrl-C asks training to stop after its step; the second one is an ordinary one."""

    def __init__(self) -> None:
        self._requested = False

    def requested(self) -> bool:
        return self._requested

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, *_: object) -> None:
        self._requested = True
        if os.environ.get("WORLD_SIZE", "1") == "1":  # a launcher passes the same Ctrl-C on a second time
            signal.signal(signal.SIGINT, self._before)
