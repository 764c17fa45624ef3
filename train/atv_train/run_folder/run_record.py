"""The names of a run's files, and its record. It needs no torch, so that mistakes are found before that is imported."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from atv_local.data import reading, restore
from atv_local.errors import BundleError, first_problem
from atv_train.job import RunRecord

RUN, METRICS, SAMPLES, CURVES = "run.json", "metrics.jsonl", "samples.jsonl", "curves.png"
STATE, BASELINES = "state.safetensors", "baselines"
CHECKPOINT = "checkpoint"


def read_run_record(folder: Path) -> RunRecord:
    """The content of run.json.

    Raises:
        NotFoundError: no run there.
        BundleError: a damaged one.
    """
    try:
        with reading(folder / RUN, BundleError):
            return RunRecord.model_validate_json((folder / RUN).read_bytes())
    except ValidationError as error:
        raise BundleError(f"{folder / RUN} is damaged or of another version: {first_problem(error)}") from error


def restore_run(folder: Path) -> None:
    """Restore or remove what a killed process left of a run.

    Raises:
        UsageError: another process is writing it.
    """
    for path in (folder, *(folder / name for name in (METRICS, SAMPLES, CURVES, STATE, CHECKPOINT, BASELINES))):
        restore(path)
