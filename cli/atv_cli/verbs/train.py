"""`atv-local train`: task rows to a run folder with a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_local.data import reading
from atv_local.errors import DataError, UsageError
from atv_local.vectors import Positions, parse_layers

if TYPE_CHECKING:
    from atv_train import Job

Pooling = Literal["mean", "last", "cls", "mix"]
Tuning = Literal["full", "lora", "frozen"]


@dataclass(frozen=True)
class SettingsOptions:
    """How to optimise. The fields are those of `Settings`."""

    epochs: Annotated[
        int,
        Panel.TRAINING.option(
            "--epochs", metavar="N", min=0, help="Pass over the rows this many times; 0 chooses by their number."
        ),
    ] = 0
    batch_size: Annotated[
        int,
        Panel.TRAINING.option(
            "--batch-size", metavar="N", min=0, help="Take this many rows per step and process; 0 chooses a number."
        ),
    ] = 0
    learning_rate: Annotated[
        float,
        Panel.TRAINING.option(
            "--learning-rate", metavar="FLOAT", min=0, help="Train the expansion with this learning rate."
        ),
    ] = 2e-3
    backbone_learning_rate: Annotated[
        float,
        Panel.TRAINING.option(
            "--backbone-learning-rate", metavar="FLOAT", min=0, help="Train the backbone with this learning rate."
        ),
    ] = 1e-4
    patience: Annotated[
        int,
        Panel.TRAINING.option(
            "--patience", metavar="N", min=1, help="Stop after this many epochs without a better validation."
        ),
    ] = 4
    strengths: Annotated[
        tuple[float, float],
        Panel.TRAINING.option(
            "--strengths", metavar="FLOAT FLOAT", help="Draw the strength of each row from this range."
        ),
    ] = (1.0, 1.0)
    harmless: Annotated[
        float,
        Panel.TRAINING.option(
            "--harmless", metavar="FLOAT", min=0, help="Weigh the loss for harm to unrelated queries by this factor."
        ),
    ] = 0.0
    contrastive: Annotated[
        float,
        Panel.TRAINING.option(
            "--contrastive", metavar="FLOAT", min=0, help="Weigh the contrastive loss between tasks by this factor."
        ),
    ] = 0.0
    seed: Annotated[
        int,
        Panel.TRAINING.option(
            "--seed",
            metavar="N",
            min=0,
            max=(1 << 32) - 1,
            help="Shuffle the rows and draw random numbers by this seed.",
        ),
    ] = 0


def train(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA",
            help='JSON Lines or CSV files with "input" and "output", or folders of them; each file is one task.',
        ),
    ] = None,
    *,
    column: options.Column = None,
    templates: Annotated[
        Path | None,
        Panel.INPUT.option(
            "--templates",
            metavar="FILE",
            help='Vary the wording of the prompts by task: {"task": ["Classify: {input}"], "*": [...]} as JSON.',
        ),
    ] = None,
    max_tokens: Annotated[
        int,
        Panel.INPUT.option(
            "--max-tokens", metavar="N", min=4, help="Leave out rows that are longer than this many tokens."
        ),
    ] = 1024,
    valid: Annotated[
        list[Path] | None,
        Panel.INPUT.option(
            "--valid",
            metavar="FILE",
            help="Measure on the rows of this file after every epoch; repeatable.",
            show_default="a tenth of the rows",
        ),
    ] = None,
    hold_out: Annotated[
        bool,
        Panel.INPUT.option(
            "--hold-out/--no-hold-out", help="Hold out a tenth of the rows to measure on, if --valid is not given."
        ),
    ] = True,
    unrelated: Annotated[
        Path | None,
        Panel.INPUT.option(
            "--unrelated",
            metavar="FILE",
            help="Take the unrelated queries for --harmless from this file, one a line.",
            show_default="packaged queries",
        ),
    ] = None,
    model: options.Model = None,
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
        Positions,
        Panel.STEERING.option(
            "--positions",
            help="Steer all tokens, only the last one of the prompt, or that one and those of the answer.",
        ),
    ] = Positions.DECODE,
    layers: Annotated[
        str | None,
        Panel.STEERING.option(
            "--layers", metavar="A-B", help="Steer these layers only, such as 4-20.", show_default="all"
        ),
    ] = None,
    scale: Annotated[
        float,
        Panel.STEERING.option("--scale", metavar="FLOAT", help="Multiply the generator's vector by this constant."),
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
        Panel.GENERATOR.option("--tuning", help="Train all of the backbone, low-rank adapters in it, or none of it."),
    ] = "full",
    pooling: Annotated[
        Pooling,
        Panel.GENERATOR.option(
            "--pooling", help="Combine the states of a query: their mean, the last, that of CLS, or a learned mix."
        ),
    ] = "mean",
    rank: Annotated[
        int | None,
        Panel.GENERATOR.option(
            "--rank", metavar="N", min=1, help="Factor the expansion through this many dimensions.", show_default="none"
        ),
    ] = None,
    settings: SettingsOptions,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Panel.PERFORMANCE.option("--dtype", help="Compute the target in this type; auto takes the faster one here."),
    ] = "auto",
    cache: Annotated[
        float | None,
        Panel.PERFORMANCE.option(
            "--cache",
            metavar="GB",
            min=0,
            help="Use this much memory to cache the states of prompts.",
            show_default="half of the free memory",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option("-o", "--output", metavar="FOLDER", help="Write the run to this folder."),
    ] = None,
    resume: Annotated[
        Path | None,
        Panel.OUTPUT.option("--resume", metavar="FOLDER", help="Resume the run in this folder; takes no other option."),
    ] = None,
    baselines: Annotated[
        bool, Panel.OUTPUT.option("--baselines", help="Measure static, averaged and random vectors as well.")
    ] = False,
) -> None:
    """Train a generator for a GGUF on your rows.

    Press Ctrl-C to stop and save what was learned; --resume continues from there.
    """
    from atv_cli.optional_packages import require_extra

    with require_extra("train"):
        from atv_local.data import parse_columns
        from atv_local.names import resolve_model
        from atv_train import Job, Settings
        from atv_train import training_run as training
    if resume is not None:
        given = [name for name in context.params if name != "resume" and _was_given(context, name)]
        if given:
            raise UsageError(f"--resume takes all settings from {resume}; leave out {given[0]}")
        _work(resume, lambda hooks: training.resume(resume, hooks))
        return
    if output is None or not data:
        missing = "-o FOLDER" if output is None else "a file of rows"
        raise UsageError(f"training needs {missing}; see atv-local train --help")
    job = Job(
        model=resolve_model(model).absolute(),
        data=[path.absolute() for path in data],
        valid=[path.absolute() for path in valid or []],
        hold_out=hold_out,
        columns=parse_columns(column or []),
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
        settings=Settings(**asdict(settings)),
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
        raise UsageError("--unrelated has no effect without --harmless; add a weight, such as --harmless 1")


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
        saved = f"what was learned is saved; to resume: atv-local train --resume {output}"
        view.say(f"stopped; {saved if learned else 'nothing was learned yet'}")
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
