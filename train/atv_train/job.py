"""A training job, and the record of it that a run can be resumed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from atv_local.data import Columns, TemplateVariables
from atv_local.generator import Pooling, TaskSpec
from atv_local.vectors import Positions
from atv_train.examples import TaskInstructions, Templates, Wordings
from atv_train.trainer import TrainingSettings
from atv_train.training_choices import EpochMeasure, TargetDtype, Tuning


@dataclass(frozen=True)
class TrainingJob:
    """The model, the data and how to train. `train` says what each option means; files have absolute paths.

    `start` is the run or bundle that training goes on from, with its `earlier` tasks; `keep_rows` lets later runs go on
    from this one.
    `cache_bytes` bounds the memory for cached prefixes, and `keep_prefixes` saves them for later runs. Epochs and batch
    size of 0 in `settings` are chosen from the number of rows.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # of run.json; what it has more is of another version

    model: Path
    data: Sequence[Path]
    valid: Sequence[Path] = ()
    hold_out: bool = True
    start: Path | None = None
    earlier: dict[str, TaskSpec] = field(default_factory=dict)
    keep_rows: bool = True
    columns: Columns = field(default_factory=dict)
    skip_bad_rows: bool = False
    templates: Templates | None = None
    instructions: TaskInstructions | None = None
    weights: str | None = None
    positions: Positions = Positions.DECODE
    prompt_vector: bool = False
    layers: tuple[int, int] | None = None
    backbone: str | None = None
    tuning: Tuning = "full"
    pooling: Pooling = "mean"
    static_vector: bool = False
    rank: Annotated[int, Field(ge=1)] | None = None
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    max_row_tokens: Annotated[int, Field(ge=4)] = 1024
    max_query_tokens: Annotated[int, Field(ge=3)] | None = None
    unrelated: Path | None = None
    baselines: bool = False
    cache_bytes: int | None = None
    keep_prefixes: bool = True
    dtype: TargetDtype = "auto"
    template_variables: TemplateVariables = field(default_factory=dict)
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    @property
    def worded(self) -> Wordings:
        """How rows are worded."""
        return Wordings(self.templates or {}, self.instructions or {}, self.earlier)


class RunRecord(BaseModel):
    """The content of run.json: the job, what must be the same when the run is resumed, and warnings about the rows.

    `measure` is the metric that decides which epoch is the best, None if nothing is measured.
    """

    model_config = ConfigDict(frozen=True)

    job: TrainingJob
    data_sha256: list[str]
    model_bytes: int
    processes: int
    prefix_bytes: int
    warnings: list[str] = Field(default_factory=list)
    measure: EpochMeasure | None = None
