"""Checks before a run starts or is resumed."""

from __future__ import annotations

from atv_local.errors import DataError, UsageError
from atv_local.text import shown, some_of
from atv_train.examples import OTHER_TASKS
from atv_train.job import RunRecord, TrainingJob
from atv_train.training_data import TrainingData


def check_unchanged(record: RunRecord, data: TrainingData, model_bytes: int, processes: int) -> None:
    """Require that a resumed run is the same run.

    Raises:
        DataError: other data or another model.
        UsageError: another number of processes.
    """
    if data.hashes != record.data_sha256:
        raise DataError(f"{_changed(record.job)} changed since this run was started; start a new run")
    if model_bytes != record.model_bytes:
        raise DataError(f"{record.job.model} is not the model this run was started with; start a new run")
    if processes != record.processes:
        raise UsageError(f"this run was started with {record.processes} processes, not {processes}; use as many")


def _changed(job: TrainingJob) -> str:
    return "its data has" if job.start is None else f"its data, or {job.start} that it goes on from, has"


def check_baselines(job: TrainingJob, data: TrainingData) -> None:
    """Raise UsageError if baselines are wanted and there are no rows to compare them on."""
    if job.baselines and not data.valid.rows:
        raise UsageError("`baselines` are compared on validation rows; name some with `valid=...` or use `hold_out`")


def check_worded_tasks(job: TrainingJob, data: TrainingData) -> None:
    """Raise UsageError for a template of a task that the data does not have, and for instructions of no task of it.

    Instructions may be those of more tasks, as a file of them is shared.
    """
    unknown = [task for task in job.templates or () if task not in (OTHER_TASKS, *data.tasks, *job.earlier)]
    if unknown:
        raise UsageError(f"`templates` names the task {shown(unknown[0])}; the tasks are {some_of(data.tasks)}")
    if job.instructions and job.start is None and not set(data.tasks).intersection(job.instructions):
        raise UsageError(
            f"`instructions` names none of the tasks, which are {some_of(data.tasks)}; the names are those of the files"
        )


def check_writable(record: RunRecord) -> None:
    """Raise UsageError if the record has a value that JSON cannot hold, such as a path that is not Unicode."""
    try:
        record.model_dump_json()
    except ValueError as error:
        raise UsageError(f"this run cannot be saved: {error}") from error
