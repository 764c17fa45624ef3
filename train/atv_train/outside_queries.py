"""Queries that belong to no task of a run, which its gate is to close for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from atv_local.data import MIN_QUERIES
from atv_local.generator import Pooling, nearest_mean
from atv_train.examples import Example
from atv_train.gate_fit import query_states
from atv_train.load_models import LoadedModels
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule

_MAX_ROWS = 1000  # of a task
_LIKE_ROWS = 0.25


def unlike_tasks(
    queries: Sequence[str], rows: Sequence[Example], models: LoadedModels, pooling: Pooling, device: torch.device
) -> list[str]:
    """Those of general queries that no row of a task resembles, before training.

    A style that is meant for every question has rows such as general questions are. A gate that learned to close for
    these would close for the task.

    Args:
        queries: of any kind.
        rows: of the tasks whose answers are text. A query that is nearer to them than a quarter of the task's rows are
            to the others is left out, but the 12 that are least near stay.
    """
    if not rows:
        return list(queries)
    reader = AdaptiveVectors(GeneratorModule(models.backbone, 1, 1, pooling), models.tokenizer, models.max_query)
    reader.to(device)
    by_task: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row.query)
    states, excess = _units(reader, queries), np.full(len(queries), -np.inf)
    for own in by_task.values():
        unique = list(dict.fromkeys(own))[:_MAX_ROWS]
        if len(unique) > 1:
            known = _units(reader, unique)
            among = known @ known.T
            np.fill_diagonal(among, -1)
            limit = np.quantile(nearest_mean(among), _LIKE_ROWS)
            excess = np.maximum(excess, nearest_mean(states @ known.T) - limit)
    kept = np.union1d(np.flatnonzero(excess < 0), np.argsort(excess, kind="stable")[:MIN_QUERIES])
    return [queries[index] for index in kept]


def _units(reader: AdaptiveVectors, queries: Sequence[str]) -> NDArray[np.float32]:
    states = query_states(reader, queries)
    units: NDArray[np.float32] = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return units
