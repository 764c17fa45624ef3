"""What to train on what, and what is written down of it so that it can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from atv_local.data import Columns
from atv_local.vectors import Positions
from atv_train.examples import Templates
from atv_train.plan import Dtype
from atv_train.trainer import Settings
from atv_train.vector_sources import Pooling, Tuning


@dataclass(frozen=True)
class Job:
    """What to train on what. `valid` rows are measured after every epoch and never trained on; without them a tenth of
    the rows is held out, unless `hold_out` is off.

    `weights` stands in for the GGUF in training: its unquantised self, a Hugging Face folder or hub id. `backbone` is
    a model folder or hub id, by default all-MiniLM-L6-v2. `unrelated` is a text file of queries outside the tasks, one
    a line, by default our own list. `cache_bytes` bounds the memory for kept prefixes. `dtype` is the
    target's, by default what the machine multiplies fast. Epochs and batch size of 0 in
    `settings` are chosen from the data.
    """

    model: Path
    data: Sequence[Path]
    valid: Sequence[Path] = ()
    hold_out: bool = True
    columns: Columns = field(default_factory=dict)
    templates: Templates | None = None
    weights: str | None = None
    positions: Positions = Positions.DECODE
    layers: tuple[int, int] | None = None
    backbone: str | None = None
    tuning: Tuning = "full"
    pooling: Pooling = "mean"
    rank: int | None = None
    scale: float = 1.0
    max_tokens: int = 1024
    max_query_tokens: int = 256
    unrelated: Path | None = None
    baselines: bool = False
    cache_bytes: int | None = None
    dtype: Dtype = "auto"
    settings: Settings = field(default_factory=Settings)


class RunRecord(BaseModel):
    """What run.json holds: the job and what must be the same when it is resumed."""

    model_config = ConfigDict(frozen=True)

    job: Job
    data_sha256: list[str]
    model_bytes: int
    processes: int
    prefix_bytes: int
