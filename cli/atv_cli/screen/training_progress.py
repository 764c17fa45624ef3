"""What `atv-local train` shows: the plan, the first rows, progress, each epoch. All of it on stderr."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

if TYPE_CHECKING:
    from atv_train import StepReport, TrainingMetrics, TrainingPlan

_LINE_SECONDS = 60.0


class TrainingProgress:
    """A context manager; its `hooks` go to a run. Without a terminal it prints a line a minute instead of a bar."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        from atv_train import TrainingHooks

        self.speaks = os.environ.get("RANK", "0") == "0"  # of several processes only the first
        self._console = Console(stderr=True, quiet=not self.speaks)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}")
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("preparing", total=None, text="")
        self._printed = time.monotonic()
        self.hooks = TrainingHooks(
            on_plan=self._plan,
            on_prepared=self._prepared,
            on_step=self._step,
            on_epoch=self._epoch,
            on_baseline=self._baseline,
            stopped=stopped,
        )

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line, as it is, but for control characters, which data may hold."""
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def say_best(self, metrics: TrainingMetrics) -> None:
        """Which epoch the checkpoint is of."""
        accuracy = f", validation accuracy {metrics['valid_accuracy']:.3f}" if "valid_accuracy" in metrics else ""
        self.say(f"best: epoch {metrics['epoch']:.0f}{accuracy}")

    def _plan(self, plan: TrainingPlan) -> None:
        settings = plan.settings
        held = " held out" if plan.held_out else ""
        early = f", fewer if {settings.patience} bring nothing" if plan.valid_rows else ""
        prefixes = plan.prefixes
        memory = f"{_size(prefixes.memory)} in memory"
        disk = f", {_size(prefixes.disk)} on disk" if prefixes.disk else ""
        again = prefixes.needed - prefixes.cached
        rest = f", {_size(again)} computed again each time" if again > 0 else ""
        self.say(f"target     {plan.target}, {plan.computed}")
        self.say(f"generator  {plan.generator}, {plan.trainable / 1e6:.1f}M parameters trained")
        self.say(
            f"data       {plan.rows} rows of {plan.tasks} tasks, {plan.tokens / plan.rows:.0f} tokens each; "
            f"{plan.valid_rows} rows{held} for validation"
        )
        self.say(f"prefixes   {_size(prefixes.needed)}: {memory}{disk}{rest}")
        self.say(
            f"plan       {settings.epochs} epochs{early}, {plan.steps} steps of {settings.batch_size * plan.processes} "
            f"rows; at most about {_time(plan.seconds)}"
        )
        for warning in plan.warnings:
            self.say(f"warning    {warning}")
        for task, prompt, answer in plan.sample:
            self.say(f"sample     {task}: {_short(prompt)!r} -> {_short(answer)!r}")

    def _prepared(self, done: int, total: int) -> None:
        self._bar.update(self._task, description="reading prompts", total=total, completed=done, text="tokens")
        self._line(f"reading prompts: {done} of {total} tokens")

    def _step(self, step: StepReport) -> None:
        accuracy = "" if step.accuracy is None else f", accuracy {step.accuracy:.3f}"
        speed = f"{step.tokens_per_second:.0f} tokens/s, {_time(step.seconds_left)} left"
        text = f"loss {step.loss:.3f}{accuracy}, {speed}"
        self._bar.update(self._task, description="training", total=step.steps, completed=step.step, text=text)
        self._line(f"step {step.step} of {step.steps}: {text}")

    def _line(self, text: str) -> None:
        if self._bar.disable and time.monotonic() - self._printed >= _LINE_SECONDS:
            self._printed = time.monotonic()
            self.say(text)

    def _epoch(self, metrics: TrainingMetrics) -> None:
        self.say("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

    def _baseline(self, name: str, metrics: TrainingMetrics) -> None:
        self.say(f"vector {name:9} " + "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _short(text: str, width: int = 160) -> str:
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"
