"""The description of a checkpoint, which export writes into the bundle's manifest."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from atv_local.data import MAX_INSTRUCTION_CHARS, MAX_LABEL_CHARS, MAX_LABELS, Row, RowFile, are_labels
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
    start: Spec | None = None,
    replayed: Sequence[Row] = (),
) -> Spec:
    """The spec of a run's checkpoint, without metrics.

    Args:
        start: of what it starts from, whose tasks and data are its own too.
        replayed: rows of those tasks.

    Raises:
        UsageError: something that a manifest cannot hold, such as layers the target does not have.
    """
    rows = [*replayed, *(row for file in data for row in file.rows)]
    tasks = _with_earlier(_tasks(rows, job.worded), start.tasks if start else [])
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
                data=_data_files(data, start),
                seed=seed,
                measure=measure,
                versions={name: version(name) for name in ("torch", "transformers", "llama_cpp_python")},
            ),
            tasks=tasks,
            template_variables=job.template_variables,
        )
    except ValidationError as error:
        raise UsageError(f"this run cannot be described in a manifest: {first_problem(error)}") from error


def _data_files(data: Sequence[RowFile], start: Spec | None) -> list[DataFile]:
    files = [DataFile(name=file.name, rows=len(file.rows), sha256=file.sha256) for file in data]
    earlier = [file for file in (start.provenance.data if start else []) if file not in files]
    return [*earlier, *files][-MAX_TASKS:]


def _with_earlier(tasks: list[TaskSpec], earlier: Sequence[TaskSpec]) -> list[TaskSpec]:
    """The earlier tasks, with what is new in them, and then the new ones; all of them, or none if they are too many."""
    found = {task.name: task for task in tasks}
    merged = [_merged(task, found.pop(task.name, None)) for task in earlier] + [*found.values()]
    return merged if len(merged) <= MAX_TASKS and _size(merged) <= _MAX_TASK_CHARS else []


def _merged(earlier: TaskSpec, new: TaskSpec | None) -> TaskSpec:
    if new is None:
        return earlier
    labels = sorted({*earlier.labels, *new.labels})
    of_labels = earlier.kind == "labels" and len(labels) <= MAX_LABELS
    return TaskSpec(
        name=earlier.name,
        kind="labels" if of_labels else "text",
        instruction=new.instruction or earlier.instruction,
        choices=new.choices if new.instruction else earlier.choices,
        labels=labels if of_labels else [],
    )


def _size(tasks: Sequence[TaskSpec]) -> int:
    """Characters of names, instructions and labels."""
    return sum(len(text) for task in tasks for text in (task.name, task.instruction or "", *task.choices, *task.labels))


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
    return [] if _tasks([row for file in data for row in file.rows], worded) else [sentence]


def _tasks(rows: Sequence[Row], worded: Wordings) -> list[TaskSpec]:
    """The tasks of the training rows with their labels, in the order of their first rows; none if they would
    fill the manifest."""
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    tasks = [_task(name, own, worded) for name, own in by_task.items()] if len(by_task) <= MAX_TASKS else []
    return tasks if _size(tasks) <= _MAX_TASK_CHARS else []


def _task(name: str, rows: Sequence[Row], worded: Wordings) -> TaskSpec:
    outputs, (instruction, choices) = [row.output for row in rows], worded.of_task(rows)
    if instruction and len(instruction) > MAX_INSTRUCTION_CHARS:
        instruction = None  # of a row; those of the options are checked
    if len(choices) > MAX_LABELS or any(len(choice) > MAX_LABEL_CHARS for choice in choices):
        choices = ()
    told: dict[str, Any] = {"instruction": instruction, "choices": list(choices) if instruction else []}
    if are_labels(outputs):
        return TaskSpec(name=name, kind="labels", labels=sorted(set(outputs)), **told)
    return TaskSpec(name=name, kind="text", **told)
