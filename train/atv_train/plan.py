"""The plan of a run, shown before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atv_local.target import TargetFile
from atv_train.examples import Example
from atv_train.frozen_target import PrefixBudget
from atv_train.hub_models import default_backbone
from atv_train.job import TrainingJob
from atv_train.replay import MAX_KEPT
from atv_train.trainer import StepTiming, Trainer, TrainingSettings, time_step
from atv_train.training_choices import EpochMeasure
from atv_train.training_data import TrainingData
from atv_train.vector_sources import backbone_name, n_trainable


@dataclass(frozen=True)
class TrainingPlan:
    """Sizes are in bytes; `sample` has task, prompt as the target reads it, and answer.

    `measure` is the metric that decides which epoch is the best, None if nothing is measured. A run that goes on from
    another has `new_rows`, which may be repeated, and as many `earlier_rows`; `kept_rows` is what later ones can use.
    """

    target: str
    computed: str
    generator: str
    trainable: int
    rows: int
    valid_rows: int
    held_out: bool
    tasks: int
    text_tasks: int
    measure: EpochMeasure | None
    tokens: int
    settings: TrainingSettings
    processes: int
    prefixes: PrefixBudget
    timing: StepTiming
    warnings: list[str]
    sample: list[tuple[str, str, str]]
    new_rows: int = 0
    earlier_rows: int = 0
    kept_rows: int = 0

    @property
    def steps(self) -> int:
        """Number of steps in all epochs."""
        return self.settings.epochs * math.ceil(self.rows / (self.settings.batch_size * self.processes))

    @property
    def seconds(self) -> float:
        """Estimate for all epochs: prefixes and steps, and a fifth more for validation and saving."""
        evaluated = self.prefixes.needed and not self.prefixes.saved
        prefixes = self.timing.prefix * self.tokens / 1000 if evaluated else 0.0
        return 1.2 * (prefixes + self.steps * self.timing.step)


def plan_training(
    job: TrainingJob,
    target_file: TargetFile,
    data: TrainingData,
    trainer: Trainer,
    budget: PrefixBudget,
    measure: EpochMeasure | None,
) -> TrainingPlan:
    """The plan of a run whose trainer is ready; times a step."""
    spec, target, text = target_file.spec, trainer.target, target_file.vocabulary.text
    backbone = backbone_name(job.backbone or default_backbone())
    return TrainingPlan(
        target=f"{job.model.name}, {spec.architecture}, {spec.n_layer} layers of {spec.n_embd}",
        computed=f"{str(target.dtype).removeprefix('torch.')} on {target.device.type}",
        generator=f"{backbone}, {job.pooling} pooling, {job.tuning} tuning",
        trainable=n_trainable(trainer.source),
        rows=len(data.train.rows),
        valid_rows=len(data.valid.rows),
        held_out=data.held_out,
        tasks=len(data.tasks),
        text_tasks=len(data.text_tasks),
        measure=measure,
        tokens=sum(example.length for example in data.train.all),
        settings=trainer.settings,
        processes=trainer.accelerator.num_processes,
        prefixes=budget,
        timing=time_step(trainer, data.train.rows),
        warnings=data.warnings,
        new_rows=data.n_new if job.start else 0,
        earlier_rows=data.n_earlier,
        kept_rows=min(len(data.to_keep), MAX_KEPT) if job.keep_rows else 0,
        sample=[(example.task, text(example.prompt), text(example.answer)) for example in _samples(data.train.first)],
    )


def _samples(examples: Sequence[Example]) -> list[Example]:
    """The first example of up to three tasks."""
    return list({example.task: example for example in reversed(examples)}.values())[-3:][::-1]
