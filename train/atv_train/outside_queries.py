"""Queries that belong to no task of a run, for its gate and for do-no-harm training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atv_local.data import MIN_QUERIES, read_unrelated_queries, tell
from atv_local.generator import Pooling, nearest_mean
from atv_train.examples import Example
from atv_train.gate_fit import query_states
from atv_train.load_models import LoadedModels
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule

_MAX_ROWS = 1000  # of a task
_GATE_SHARE, _HARMLESS_SHARE = 0.5, 0.0  # of a task's rows; see `nearness`
_FEW = 300
_MAX_HARMLESS = 240  # the base model answers each


@dataclass(frozen=True)
class OutsideQueries:
    """Queries outside the tasks: what a gate learns to close for, and what do-no-harm training leaves as it is.

    The last of both are for validation; see `held_out`.
    """

    gate: list[str]
    harmless: list[str]


def outside_queries(
    file: Path | None,
    texts: Sequence[Example],
    n_rows: int,
    models: LoadedModels,
    pooling: Pooling,
    device: torch.device,
) -> OutsideQueries:
    """All queries of a file; of the packaged ones those that no row of a task resembles, before training.

    A style that is meant for every question has rows such as general questions are. A gate that learned to close for
    these would close for the task, and do-no-harm training on them would weaken the style.

    Args:
        texts: rows of the tasks whose answers are text.
        n_rows: of all tasks; a small training reads fewer queries.

    Raises:
        DataError: as `read_unrelated_queries`.
    """
    queries = read_unrelated_queries(file)
    if file is not None:
        return OutsideQueries(queries, queries[-_MAX_HARMLESS:])
    queries = queries[-max(_FEW, 2 * n_rows) :]  # reading all takes longer than few rows do
    shares = nearness(queries, texts, models, pooling, device)
    return OutsideQueries(
        _up_to(queries, shares, _GATE_SHARE), _up_to(queries, shares, _HARMLESS_SHARE)[-_MAX_HARMLESS:]
    )


def as_asked(queries: Sequence[str], instructions: Sequence[str]) -> list[str]:
    """The queries as they may be asked: every other one after the instruction of a task, one after the other."""
    said = cycle([text for one in instructions for text in (one, None)] or [None])
    return [tell(instruction, query) for instruction, query in zip(said, queries, strict=False)]


def nearness(
    queries: Sequence[str], rows: Sequence[Example], models: LoadedModels, pooling: Pooling, device: torch.device
) -> NDArray[np.float64]:
    """float64 [queries]: the share of a task's rows that are less near to its other rows than the query is.

    It is 0 for a query that is further away than every row, and the largest one of all tasks.
    """
    shares = np.zeros(len(queries))
    if not rows:
        return shares
    reader = AdaptiveVectors(GeneratorModule(models.backbone, 1, 1, pooling), models.tokenizer, models.max_query)
    reader.to(device)
    by_task: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row.query)
    states = _units(reader, queries)
    for own in by_task.values():
        unique = list(dict.fromkeys(own))[:_MAX_ROWS]
        if len(unique) > 1:
            known = _units(reader, unique)
            among = known @ known.T
            np.fill_diagonal(among, -1)
            places = np.searchsorted(np.sort(nearest_mean(among)), nearest_mean(states @ known.T))
            shares = np.maximum(shares, places / len(unique))
    return shares


def _up_to(queries: Sequence[str], shares: NDArray[np.float64], limit: float) -> list[str]:
    """Those whose share is at most the limit, in their order, and at least the few with the lowest ones."""
    kept = np.union1d(np.flatnonzero(shares <= limit), np.argsort(shares, kind="stable")[:MIN_QUERIES])
    return [queries[index] for index in kept]


def _units(reader: AdaptiveVectors, queries: Sequence[str]) -> NDArray[np.float32]:
    states = query_states(reader, queries)
    units: NDArray[np.float32] = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return units
