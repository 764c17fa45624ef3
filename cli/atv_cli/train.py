"""`atv-local train`: task rows to checkpoint."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atv_local.steering import Positions

if TYPE_CHECKING:
    from atv_train.trainer import Progress


def train(
    data: Annotated[list[Path], typer.Argument(help='JSON Lines with "input" and "output"; one file is one task.')],
    model: Annotated[Path, typer.Option("-m", "--model", help="GGUF of the target to teach.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint folder to write.")],
    valid: Annotated[list[Path] | None, typer.Option(help="Rows to measure after every epoch; repeatable.")] = None,
    positions: Annotated[Positions, typer.Option(help="Tokens that are steered.")] = Positions.DECODE,
    backbone: Annotated[
        str | None, typer.Option(help="Folder or hub id of the generator's backbone [default: all-MiniLM-L6-v2].")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the expansion.")] = 5e-4,
    backbone_learning_rate: Annotated[float, typer.Option(min=0, help="Of the backbone.")] = 1e-4,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Order of the rows and dropout.")] = 0,
) -> None:
    """Train a generator for a GGUF on your rows. Ctrl-C keeps what was learned so far."""
    from rich.console import Console

    from atv_cli.extras import need

    with need("train"):
        from atv_train.run import Job, run
        from atv_train.trainer import Settings
    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        backbone_learning_rate=backbone_learning_rate,
        seed=seed,
    )
    job = Job(model, data, valid or [], positions, backbone, settings=settings)
    console = Console(stderr=True)
    with _Interrupt() as interrupt, _progress(console) as bar:
        task = bar.add_task("preparing", total=None, loss="")

        def on_step(progress: Progress) -> None:
            left = f"{progress.seconds_left / 60:.0f} min left"
            text = f"loss {progress.loss:.3f}, {left}"
            bar.update(task, description="training", total=progress.steps, completed=progress.step, loss=text)

        def on_epoch(metrics: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            bar.console.print(text, soft_wrap=True, markup=False, highlight=False)

        learned = run(job, output, on_step=on_step, on_epoch=on_epoch, stopped=interrupt.requested)
    if interrupt.requested():
        what = f"{output} holds what was learned so far" if learned else "nothing was learned yet"
        console.print(f"stopped; {what}", soft_wrap=True, markup=False, highlight=False)
        sys.exit(130)
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
        signal.signal(signal.SIGINT, self._before)


def _progress(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}")
    return Progress(*columns, console=console, transient=True)
