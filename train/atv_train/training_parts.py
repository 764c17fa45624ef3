"""A job's parts: data is read, models are loaded and checked against each other, memory is divided, in this order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from atv_local.data import read_unrelated_queries
from atv_local.generator import Spec
from atv_local.target import TargetFile
from atv_train.examples import Example, encode_unrelated
from atv_train.frozen_target import (
    FrozenTarget,
    PrefixCache,
    check_length,
    check_weights,
    plan_prefixes,
    prefix_bytes,
    supports_split_attention,
)
from atv_train.job import RunRecord, TrainingJob
from atv_train.load_models import load_models, new_generator
from atv_train.plan import TrainingPlan, plan_training
from atv_train.run_checks import check_baselines, check_template_tasks, check_unchanged, check_writable
from atv_train.run_folder import checkpoint_spec
from atv_train.trainer import Trainer
from atv_train.training_choices import TargetDtype
from atv_train.training_data import TrainingData, read_training_data
from atv_train.vector_sources import AdaptiveVectors


@dataclass(frozen=True)
class TrainingParts:
    """The parts of a run; no prefix is cached yet."""

    trainer: Trainer
    source: AdaptiveVectors
    target: FrozenTarget
    data: TrainingData
    unrelated_valid: list[Example]
    spec: Spec
    record: RunRecord
    plan: TrainingPlan

    @property
    def examples(self) -> list[Example]:
        """Every example of the run."""
        return [*self.data.examples, *self.trainer.unrelated, *self.unrelated_valid]


def prepare_training(
    job: TrainingJob, accelerator: Accelerator, scratch: Path, record: RunRecord | None = None
) -> TrainingParts:
    """Make all parts of a run.

    Args:
        scratch: folder for prefixes that do not fit in memory.
        record: of the run to resume.

    Raises:
        AtvError: bad data, data that has changed since `record`, an unreadable model or backbone, too little room.
    """
    processes = accelerator.num_processes
    target_file = TargetFile.open(job.model)
    model_bytes = job.model.stat().st_size
    data = read_training_data(job, target_file.prompts)
    if record is not None:
        check_unchanged(record, data, model_bytes, processes)
    else:
        check_template_tasks(job, data)
    check_baselines(job, data)
    settings = job.settings.with_defaults(len(data.train.rows))

    torch.manual_seed(settings.seed)
    models = load_models(job, accelerator.device)
    check_length(models.target, data.examples)
    check_weights(models.target, job.model, max(data.train.first, key=lambda example: len(example.prompt)))
    unrelated: list[Example] = []
    unrelated_valid: list[Example] = []
    if settings.harmless:
        queries = read_unrelated_queries(job.unrelated)
        unrelated, unrelated_valid = encode_unrelated(queries, models.target, target_file, job.max_row_tokens)
    examples = [*data.examples, *unrelated, *unrelated_valid]
    split_attention = supports_split_attention(models.target, job.positions, examples)

    prefixes = [] if job.positions.prefix else [example.prompt[:-1] for example in examples]
    needed = prefix_bytes(models.target, prefixes) if prefixes else 0
    wanted = record.prefix_bytes if record else None
    budget = plan_prefixes(needed, accelerator.device, scratch, job.cache_bytes, wanted)
    cache = PrefixCache(budget.memory, budget.disk, scratch if budget.disk else None)

    dtype: TargetDtype = "bfloat16" if models.target.dtype is torch.bfloat16 else "float32"
    new_record = RunRecord(
        job=replace(job, settings=settings, dtype=dtype),
        data_sha256=data.hashes,
        model_bytes=model_bytes,
        processes=processes,
        prefix_bytes=budget.cached,
        warnings=data.warnings,
    )
    check_writable(new_record)
    spec = checkpoint_spec(job, target_file.spec, data.files, models.max_query, settings.seed)
    target = FrozenTarget(models.target, job.positions, cache, split_attention=split_attention)
    source = new_generator(job, models, target)
    trainer = Trainer(source, target, settings, unrelated, accelerator)
    plan = plan_training(job, target_file, data, trainer, budget)
    return TrainingParts(trainer, source, target, data, unrelated_valid, spec, new_record, plan)
