"""The description of a checkpoint, which export writes into the bundle's manifest."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from pydantic import ValidationError

from atv_local.data import MAX_INSTRUCTION_CHARS, Row, RowFile, are_labels
from atv_local.errors import UsageError, first_problem
from atv_local.generator import (
    FORMAT_VERSION,
    MAX_TASKS,
    TOLD_VERSION,
    DataFile,
    FormatVersion,
    GeneratorSpec,
    InjectionSpec,
    Provenance,
    Spec,
    TaskSpec,
)
from atv_local.vectors import Steering, TargetSpec
from atv_train.examples import Wordings
from atv_train.hub_models import default_backbone
from atv_train.job import TrainingJob
from atv_train.training_choices import EpochMeasure
from atv_train.vector_sources import QUERY_TEMPLATE, backbone_name

_MAX_TASK_CHARS = 1 << 18
"""Of all labels and names: a quarter of what a manifest can be."""


def checkpoint_spec(
    job: TrainingJob,
    target: TargetSpec,
    data: Sequence[RowFile],
    max_query: int,
    seed: int,
    measure: EpochMeasure | None = None,
) -> Spec:
    """The spec of a run's checkpoint, without metrics.

    Raises:
        UsageError: something that a manifest cannot hold, such as layers the target does not have.
    """
    tasks = _tasks(data, job.worded)
    Steering(layers=job.layers).range(target.n_layer - 1)  # raises if the target lacks a layer
    try:
        return Spec(
            format_version=_version(job, tasks),
            target=target,
            generator=GeneratorSpec(
                backbone=backbone_name(job.backbone or default_backbone()),
                pooling=job.pooling,
                rank=job.rank,
                query_template=QUERY_TEMPLATE,
                max_tokens=max_query,
            ),
            injection=InjectionSpec(
                positions=job.positions, layers=job.layers, scale=job.scale, prompt_vector=job.prompt_vector
            ),
            provenance=Provenance(
                data=[DataFile(name=file.name, rows=len(file.rows), sha256=file.sha256) for file in data],
                seed=seed,
                measure=measure,
                versions={name: version(name) for name in ("torch", "transformers", "llama_cpp_python")},
            ),
            tasks=tasks,
            template_variables=job.template_variables,
        )
    except ValidationError as error:
        raise UsageError(f"this run cannot be described in a manifest: {first_problem(error)}") from error


def _version(job: TrainingJob, tasks: Sequence[TaskSpec]) -> FormatVersion:
    if any(task.instruction for task in tasks):
        return TOLD_VERSION
    return 2 if job.prompt_vector or job.template_variables else FORMAT_VERSION


def warnings_about_labels(data: Sequence[RowFile], worded: Wordings) -> list[str]:
    """A sentence if the tasks of these rows cannot be listed in a bundle."""
    sentence = (
        "the tasks and their labels are too many or too long to be listed in a bundle, so it has no `choices=auto` and "
        "none of their names as a `task`"
    )
    return [] if _tasks(data, worded) else [sentence]


def _tasks(data: Sequence[RowFile], worded: Wordings) -> list[TaskSpec]:
    """The tasks of the training rows with their labels, in the order of their first rows; none if they would
    fill the manifest."""
    rows: dict[str, list[Row]] = {}
    for file in data:
        for row in file.rows:
            rows.setdefault(row.task, []).append(row)
    tasks = [_task(name, own, worded) for name, own in rows.items()] if len(rows) <= MAX_TASKS else []
    size = sum(len(text) for task in tasks for text in (task.name, task.instruction or "", *task.labels))
    return tasks if size <= _MAX_TASK_CHARS else []


def _task(name: str, rows: Sequence[Row], worded: Wordings) -> TaskSpec:
    outputs, instruction = [row.output for row in rows], worded.instruction_of_task(rows)
    if instruction and len(instruction) > MAX_INSTRUCTION_CHARS:
        instruction = None  # of a row; those of the options are checked
    if are_labels(outputs):
        return TaskSpec(name=name, kind="labels", instruction=instruction, labels=sorted(set(outputs)))
    return TaskSpec(name=name, kind="text", instruction=instruction)
