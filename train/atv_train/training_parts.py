"""A job's parts: data is read, models are loaded and checked against each other, memory is divided, in this order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from atv_local.data import held_out
from atv_local.generator import Spec
from atv_local.target import TargetFile, identity
from atv_train.examples import Example, encode_unrelated
from atv_train.frozen_target import (
    FrozenTarget,
    Prefix,
    PrefixBudget,
    PrefixCache,
    SavedPrefixes,
    check_length,
    check_weights,
    default_folder,
    plan_prefixes,
    prefix_bytes,
    shared_heads,
    supports_split_attention,
    target_identity,
)
from atv_train.job import RunRecord, TrainingJob
from atv_train.load_models import LoadedModels, load_models, new_generator
from atv_train.outside_queries import as_asked, outside_queries
from atv_train.plan import TrainingPlan, plan_training
from atv_train.query_warnings import warnings_about_queries
from atv_train.run_checks import check_baselines, check_unchanged, check_worded_tasks, check_writable
from atv_train.run_folder import checkpoint_spec, warnings_about_labels
from atv_train.start import Start
from atv_train.trainer import AnswerSampler, Trainer, TrainingSettings, sample_size
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
    outside_valid: list[str]
    spec: Spec
    record: RunRecord
    plan: TrainingPlan
    start: Start | None

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
    target_file = _open_target(job, resumed=record is not None)
    start = None if job.start is None else Start.open(job.start)
    if start is not None:
        start.check_target(target_file.spec)
    thoughtless = target_file.template_variables != job.template_variables
    job = replace(job, template_variables=dict(target_file.template_variables))
    model_bytes = job.model.stat().st_size
    data = read_training_data(job, target_file.prompts)
    data.hashes.extend([start.sha256] if start else [])
    if record is not None:
        check_unchanged(record, data, model_bytes, processes)
    else:
        check_worded_tasks(job, data)
    check_baselines(job, data)
    data.warnings.extend(warnings_about_labels(data.files, job.worded))
    if thoughtless:
        data.warnings.append(
            "the chat template begins answers inside a thinking block; it is closed before them (enable_thinking=false)"
        )
    settings = job.settings.with_defaults(len(data.train.rows), trained=bool(data.replay.train))
    if start is not None:
        data.warnings.extend(start.warnings())
        settings = replace(settings, keep_last=bool(data.replay.train) and not data.held_out and not job.valid)

    torch.manual_seed(settings.seed)
    models = load_models(job, accelerator.device, start)
    data.warnings.extend(warnings_about_queries(data, models))
    check_length(models.target, data.examples)
    longest = max(data.train.first, key=lambda example: len(example.prompt))
    check_weights(models.target, job.model, longest, job.weights)
    outside, outside_valid, unrelated, unrelated_valid = _outside(job, settings, data, models, target_file)
    examples = [*data.examples, *unrelated, *unrelated_valid]
    split_attention = supports_split_attention(models.target, job.positions, examples)
    heads = {} if job.positions.prefix else shared_heads({example.prompt[:-1] for example in examples})
    budget = _prefix_budget(job, models.target, heads, scratch, record)
    saved = _saved_prefixes(job, models.target, heads, budget, writable=accelerator.is_main_process)
    budget = replace(budget, saved=saved is not None and saved.complete)

    size = sample_size(data.train.first)
    unseen = _unseen_tasks(job, data, record)
    sampler = AnswerSampler(
        data.valid.first, data.text_tasks, target_file.vocabulary, settings.seed, *size, unseen_tasks=unseen
    )
    measure = sampler.measure if data.valid.rows and not settings.keep_last else None
    new_record = RunRecord(
        job=replace(job, settings=settings, dtype=_dtype(models.target)),
        data_sha256=data.hashes,
        model_bytes=model_bytes,
        processes=processes,
        prefix_bytes=budget.cached,
        warnings=data.warnings,
        measure=measure,
    )
    check_writable(new_record)
    spec = checkpoint_spec(
        job,
        target_file.spec,
        data.files,
        models.max_query,
        settings.seed,
        measure,
        start.spec if start and data.replay.train else None,
        data.replay.train,
    )
    cache = PrefixCache(budget.memory, budget.disk, scratch if budget.disk else None, heads, saved)
    n_vectors = spec.injection.n_vectors
    target = FrozenTarget(models.target, job.positions, cache, split_attention=split_attention, n_vectors=n_vectors)
    source = new_generator(job, models, target)
    trainer = Trainer(source, target, settings, unrelated, accelerator, sampler, outside)
    plan = plan_training(job, target_file, data, trainer, budget, measure)
    return TrainingParts(trainer, source, target, data, unrelated_valid, outside_valid, spec, new_record, plan, start)


def _unseen_tasks(job: TrainingJob, data: TrainingData, record: RunRecord | None) -> frozenset[str]:
    """Those that may decide which epoch is the best: not of a run that goes on from another's rows, nor of one that was
    begun by another measure."""
    begun_otherwise = record is not None and record.measure != "valid_unseen_loss"
    return frozenset() if job.start is not None or begun_otherwise else data.unseen_tasks(job.worded)


def _open_target(job: TrainingJob, *, resumed: bool) -> TargetFile:
    """The target's file. A new job closes a thinking block before its answers, unless it sets `enable_thinking`."""
    opened = TargetFile.open(job.model)
    opened.prompts.check_variables(job.template_variables)
    opened = replace(opened, template_variables=job.template_variables)
    if resumed or "enable_thinking" in job.template_variables or not opened.prompts.thinks:
        return opened
    return replace(opened, template_variables={**job.template_variables, "enable_thinking": False})


def _outside(
    job: TrainingJob, settings: TrainingSettings, data: TrainingData, models: LoadedModels, target_file: TargetFile
) -> tuple[list[str], list[str], list[Example], list[Example]]:
    """Queries outside the tasks for the gate (training, validation), and examples for do-no-harm training (the same).

    None that the run does not use.
    """
    if not settings.contrastive and not settings.harmless:
        return [], [], [], []
    texts = [
        replace(example, query=data.rows[example.index].input)
        for example in data.train.first
        if example.task in data.text_tasks
    ]
    found = outside_queries(job.unrelated, texts, len(data.train.rows), models, job.pooling, models.target.device)
    examples = (
        encode_unrelated(found.harmless, models.target, target_file, job.max_row_tokens)
        if settings.harmless
        else ([], [])
    )
    queries = as_asked(found.gate, data.instructions(job.worded))
    valid = held_out(queries)
    return queries[: -len(valid)], valid, *examples


def _prefix_budget(
    job: TrainingJob, model: PreTrainedModel, heads: Mapping[Prefix, Prefix], scratch: Path, record: RunRecord | None
) -> PrefixBudget:
    """Where prefixes are cached; nothing is cached if the positions steer them, since they change with each vector."""
    needed = prefix_bytes(model, heads) if heads else 0
    return plan_prefixes(needed, model.device, scratch, job.cache_bytes, record.prefix_bytes if record else None)


def _saved_prefixes(
    job: TrainingJob, model: PreTrainedModel, heads: Mapping[Prefix, Prefix], budget: PrefixBudget, *, writable: bool
) -> SavedPrefixes | None:
    """Prefixes that an earlier run has saved, or where this one saves them; None unless all of them are cached."""
    folder = default_folder()
    if not job.keep_prefixes or folder is None or not heads or budget.cached < budget.needed:
        return None
    target = target_identity(identity(job.model), job.weights, model.dtype, model.device)
    return SavedPrefixes(folder, target, heads, budget.needed, writable=writable)


def _dtype(model: PreTrainedModel) -> TargetDtype:
    """What `auto` stood for, so that a resumed run computes as before."""
    return "bfloat16" if model.dtype is torch.bfloat16 else "float32"
