"""From a job to everything its training needs: examples, the frozen target, the generator, and the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from atv_local.data import Row, RowFile, data_files, read_rows
from atv_local.errors import DataError, UsageError
from atv_local.generator import Spec
from atv_local.target import TargetFile
from atv_train.data_warnings import examine
from atv_train.examples import EncodedRows, Example, encode
from atv_train.frozen_target import FrozenTarget, PrefixStore, check_weights, load_target
from atv_train.job import Job, RunRecord
from atv_train.plan import TrainingPlan, batch_size_for, epochs_for, hold_out, measure, room, target_dtype
from atv_train.run_folder import describe
from atv_train.trainer import Settings, Trainer
from atv_train.unrelated_examples import encode_unrelated
from atv_train.vector_sources import Adaptive, GeneratorModule, default_backbone, load_backbone, query_limit, trainable


@dataclass(frozen=True)
class Data:
    """Rows and what they became. `unrelated` and `unrelated_valid` are outside the tasks."""

    files: list[RowFile]
    rows: list[Row]
    valid_rows: list[Row]
    held_out: bool
    train: EncodedRows
    valid: EncodedRows
    hashes: list[str]


@dataclass(frozen=True)
class TrainingParts:
    """All parts of a run, checked against each other; no prefix is evaluated yet."""

    trainer: Trainer
    source: Adaptive
    target: FrozenTarget
    data: Data
    unrelated_valid: list[Example]
    spec: Spec
    record: RunRecord
    plan: TrainingPlan

    @property
    def examples(self) -> list[Example]:
        """Every example of the run."""
        return [*self.data.train.all, *self.data.valid.first, *self.trainer.unrelated, *self.unrelated_valid]


def prepare(job: Job, accelerator: Accelerator, scratch: Path, record: RunRecord | None = None) -> TrainingParts:
    """Read, load and check everything.

    Args:
        scratch: folder for what of the prefixes does not fit in memory.
        record: of the run to be resumed.

    Raises:
        AtvError: bad data, data that has changed since `record`, an unreadable model or backbone, too little room.
    """
    device = accelerator.device
    target_file = TargetFile.open(job.model)
    data = _read(job, target_file)
    if record is not None:
        _check_same(record, data, job.model.stat().st_size, accelerator.num_processes)
    settings = _chosen(job.settings, len(data.train.rows))
    if job.baselines and not data.valid.rows:
        raise UsageError("--baselines are compared on validation rows; give some with --valid or --hold-out")
    torch.manual_seed(settings.seed)
    backbone, tokenizer = load_backbone(job.backbone or default_backbone())
    dtype = target_dtype(device, job.dtype)
    model = load_target(job.model, dtype, device, job.weights)
    target = FrozenTarget(model, job.positions)
    target.check_length([*data.train.all, *data.valid.first])
    check_weights(model, job.model, max(data.train.first, key=lambda example: len(example.prompt)))
    unrelated, unrelated_valid = encode_unrelated(job, target, target_file) if settings.harmless else ([], [])
    everything = [*data.train.all, *data.valid.first, *unrelated, *unrelated_valid]
    target.check(everything)
    resumed = replace(job, settings=settings, dtype="bfloat16" if dtype is torch.bfloat16 else "float32")
    needed = 0 if job.positions.prefix else _prefix_bytes(target, everything)
    memory, disk = room(needed, device, scratch, job.cache_bytes)
    keep = memory + disk if record is None else record.prefix_bytes
    if memory + disk < keep:
        raise UsageError(f"to resume, {keep >> 20} MB of memory or disk are needed for prefixes; make room")
    memory, disk = min(memory, keep), max(0, keep - memory)
    target.store = PrefixStore(memory, disk, scratch if disk else None)
    max_query = query_limit(backbone, job.max_query_tokens)
    kept = RunRecord(
        job=resumed,
        data_sha256=data.hashes,
        model_bytes=job.model.stat().st_size,
        processes=accelerator.num_processes,
        prefix_bytes=keep,
    )
    _check_writable(kept)
    spec = describe(job, target_file.spec, data.files, max_query, settings.seed)
    generator = GeneratorModule(backbone, target.n_rows, target.n_embd, job.pooling, job.scale, job.rank, job.layers)
    source = Adaptive(generator, tokenizer, max_query, job.tuning).to(device)
    trainer = Trainer(source, target, settings, unrelated, accelerator=accelerator)
    plan = TrainingPlan(
        target=f"{job.model.name}, {spec.target.architecture}, {spec.target.n_layer} layers of {target.n_embd}",
        computed=f"{str(model.dtype).removeprefix('torch.')} on {device.type}",
        generator=f"{spec.generator.backbone}, {job.pooling} pooling, {job.tuning} tuning",
        trainable=trainable(source),
        rows=len(data.train.rows),
        valid_rows=len(data.valid.rows),
        held_out=data.held_out,
        tasks=len({row.task for row in data.rows}),
        tokens=sum(example.length for example in data.train.all),
        settings=settings,
        processes=accelerator.num_processes,
        prefix_bytes=needed,
        memory_bytes=memory,
        disk_bytes=disk,
        timing=measure(trainer, data.train.rows),
        findings=[*examine(data.rows, data.valid_rows), *_left_out(data)],
        sample=[
            (e.task, target_file.vocabulary.text(e.prompt), target_file.vocabulary.text(e.answer))
            for e in _samples(data.train.first)
        ],
    )
    return TrainingParts(trainer, source, target, data, unrelated_valid, spec, kept, plan)


def _read(job: Job, target_file: TargetFile) -> Data:
    files = [read_rows(path, job.columns) for path in data_files(job.data)]
    valid_files = [read_rows(path, job.columns) for path in data_files(job.valid)]
    rows = [row for file in files for row in file.rows]
    valid_rows = [row for file in valid_files for row in file.rows]
    held_out = job.hold_out and not valid_files
    if held_out:
        rows, valid_rows = hold_out(rows, job.settings.seed)
    train, valid = (encode(part, target_file.prompts, job.max_tokens, job.templates) for part in (rows, valid_rows))
    return Data(files, rows, valid_rows, held_out, train, valid, [file.sha256 for file in (*files, *valid_files)])


def _chosen(settings: Settings, rows: int) -> Settings:
    size = settings.batch_size or batch_size_for(rows)
    return replace(settings, batch_size=size, epochs=settings.epochs or epochs_for(rows, size))


def _check_same(before: RunRecord, data: Data, model_bytes: int, processes: int) -> None:
    """A resumed run must be the same run."""
    if data.hashes != before.data_sha256:
        raise DataError("the data of this run is not what it was trained on; begin a new run")
    if model_bytes != before.model_bytes:
        raise DataError(f"{before.job.model} is not the model this run was trained on; begin a new run")
    if processes != before.processes:
        raise UsageError(f"this run had {before.processes} processes, not {processes}; resume it with as many")


def _check_writable(record: RunRecord) -> None:
    try:
        record.model_dump_json()
    except ValueError as error:  # a path that is no Unicode text
        raise UsageError(f"this run cannot be written down: {error}") from error


def _left_out(data: Data) -> list[str]:
    found = [*data.train.too_long, *data.valid.too_long]
    return [f"{len(found)} rows are left out as too long, the first: {found[0]}"] if found else []


def _prefix_bytes(target: FrozenTarget, examples: Sequence[Example]) -> int:
    return target.bytes_per_token * sum(len(prefix) for prefix in {example.prompt[:-1] for example in examples})


def _samples(examples: Sequence[Example]) -> list[Example]:
    """The first example of up to three tasks."""
    return list({example.task: example for example in reversed(examples)}.values())[-3:][::-1]
