"""The progress of `atv-local train`: the plan, sample rows, steps, and the metrics of each epoch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.progress import MofNCompleteColumn

from atv_cli.screen.progress import ProgressView
from atv_local.text import counted, shorten

if TYPE_CHECKING:
    from atv_train import LearnedRows, SampleAnswer, StepReport, TrainingMetrics, TrainingPlan

_SHOWN, _WIDTH, _BRIEF = 3, 100, 60
"""Sample answers of an epoch; characters of each text, and of two that share a line."""


class TrainingProgress(ProgressView):
    """A context manager whose `hooks` are passed to a run.

    Args:
        stopped: whether training is to stop after its step.
        in_flags: a warning with the flags of the command in place of parameters.
    """

    def __init__(self, stopped: Callable[[], bool], in_flags: Callable[[str], str] = str) -> None:
        from atv_train import TrainingHooks

        self._in_flags = in_flags
        self.speaks = os.environ.get("RANK", "0") == "0"  # only the first of several processes
        super().__init__("preparing", None, MofNCompleteColumn(), quiet=not self.speaks)
        self.hooks = TrainingHooks(
            on_plan=self._plan,
            on_start=self._start,
            on_prepared=self._prepared,
            on_step=self._step,
            on_epoch=self._epoch,
            on_samples=self._samples,
            on_static=self._static,
            on_baseline=self._baseline,
            stopped=stopped,
        )

    def say_best(self, metrics: TrainingMetrics) -> None:
        """Which epoch the checkpoint is of."""
        results = _results(metrics)
        if "valid_chrf" in metrics:
            results.insert(0, f"loss {metrics['valid_loss']:.3f} per token")
        if "valid_unseen_loss" in metrics:
            results.insert(0, f"loss {metrics['valid_unseen_loss']:.3f} per token of tasks not trained on")
        self.say(f"best: epoch {metrics['epoch']:.0f}" + (f", validation {', '.join(results)}" if results else ""))

    def say_learned(self, learned: LearnedRows) -> None:
        """How many new rows are right."""
        self.say(f"learned: {learned.right} of {counted(learned.rows, 'new row')} answered word for word")

    def _plan(self, plan: TrainingPlan) -> None:
        settings = plan.settings
        held = " held out" if plan.held_out else ""
        may_stop = plan.valid_rows and not settings.keep_last
        early = f", fewer if {settings.patience} in a row are not better" if may_stop else ""
        prefixes = plan.prefixes
        memory = f"{_size(prefixes.memory)} in memory"
        disk = f", {_size(prefixes.disk)} on disk" if prefixes.disk else ""
        again = prefixes.needed - prefixes.cached
        rest = f", {_size(again)} computed again each time" if again > 0 else ""
        self.say(f"target     {plan.target}, {plan.computed}")
        self.say(f"generator  {plan.generator}, {plan.trainable / 1e6:.1f}M parameters trained")
        self.say(
            f"data       {counted(plan.rows, 'row')} of {counted(plan.tasks, 'task')}, "
            f"{plan.tokens / plan.rows:.0f} tokens each; {counted(plan.valid_rows, 'row')}{held} for validation"
        )
        if plan.new_rows:
            self.say(f"new        {counted(plan.new_rows, 'row')}, trained with {plan.earlier_rows} of the run before")
        if plan.kept_rows:
            self.say(f"kept       {counted(plan.kept_rows, 'row')} in the run, so that --from can go on from this run")
        where = "saved by an earlier run" if prefixes.saved else f"{memory}{disk}{rest}"
        self.say(f"prefixes   {_size(prefixes.needed)}: {where}")
        self.say(
            f"plan       {counted(settings.epochs, 'epoch')}{early}, {counted(plan.steps, 'step')} of "
            f"{counted(settings.batch_size * plan.processes, 'row')}; at most about {_time(plan.seconds)}"
        )
        self.say(f"measure    {_measure(plan)}")
        for warning in plan.warnings:
            self.say(f"warning    {self._in_flags(warning)}")
        for task, prompt, answer in plan.sample:
            self.say(f"sample     {task}: {_short(prompt)!r} -> {_short(answer)!r}")

    def _start(self, metrics: TrainingMetrics) -> None:
        self.say(f"start      {_line(metrics)}")

    def _prepared(self, done: int, total: int) -> None:
        line = f"reading prompts: {done} of {total} tokens"
        self.update(line, completed=done, total=total, description="reading prompts", text="tokens")

    def _step(self, step: StepReport) -> None:
        results = "".join(f", {result}" for result in _results(step.validation))
        speed = f"{step.tokens_per_second:.0f} tokens/s, {_time(step.seconds_left)} left"
        text = f"loss {step.loss:.3f}{results}, {speed}"
        line = f"step {step.step} of {step.steps}: {text}"
        self.update(line, completed=step.step, total=step.steps, description="training", text=text)

    def _epoch(self, metrics: TrainingMetrics) -> None:
        self.say(_line(metrics))

    def _samples(self, samples: Sequence[SampleAnswer]) -> None:
        for sample in samples[:_SHOWN]:
            query, wanted, answer = (shorten(text, _WIDTH) for text in (sample.query, sample.wanted, sample.answer))
            self.say(f"sample     {shorten(sample.task)}: {query}")
            if len(wanted) + len(answer) <= _BRIEF:
                self.say(f"  answer   {answer} (wanted {wanted})")
            else:
                self.say(f"  answer   {answer}")
                self.say(f"  wanted   {wanted}")

    def _static(self, metrics: TrainingMetrics) -> None:
        self.say(f"static     {_line(metrics)}")

    def _baseline(self, name: str, metrics: TrainingMetrics) -> None:
        self.say(f"vector {name:9} {_line(metrics)}")


def _line(metrics: TrainingMetrics) -> str:
    """All metrics; those by task only where there are several tasks to tell apart."""
    tasks = Counter(name.partition("/")[0] for name in metrics if "/" in name)
    shown = {name: value for name, value in metrics.items() if "/" not in name or tasks[name.partition("/")[0]] > 1}
    return "  ".join(f"{name} {value:.4g}" for name, value in shown.items())


def _measure(plan: TrainingPlan) -> str:
    """What decides which epoch is the best, and why."""
    if plan.measure is None:
        why = "the new rows are few" if plan.valid_rows else "there are no validation rows"
        return f"none, since {why}; the last epoch is saved"
    if plan.measure == "valid_unseen_loss":
        return "validation loss per token of the tasks that are not trained on"
    if plan.measure == "valid_accuracy":
        return "validation accuracy, since all outputs are labels"
    texts = "all outputs" if plan.text_tasks == plan.tasks else f"{plan.text_tasks} of {counted(plan.tasks, 'task')}"
    return f"validation loss per token, since {texts} are text"


def _results(metrics: TrainingMetrics) -> list[str]:
    """Of validation: accuracy where there are labels, chrF where there are texts."""
    forms = {"valid_accuracy": "accuracy {:.3f}", "valid_chrf": "chrF {:.1f}"}
    return [form.format(metrics[name]) for name, form in forms.items() if name in metrics]


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _short(text: str, width: int = 160) -> str:
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"
