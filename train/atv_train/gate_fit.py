"""The gate of a trained generator: prototypes from the training rows, thresholds from the validation rows."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atv_local.generator import MAX_TASKS, OUTSIDE_STEERED, VALID_RECALL, Gate, GateSpec, GateTask, fit_thresholds
from atv_train.examples import Example
from atv_train.vector_sources import AdaptiveVectors

MAX_PROTOTYPES = 8192  # of a bundle: 6 MB for states of width 384

ALL_TASKS = "all tasks"
"""The name of what they are together, where they are too many for a manifest."""
_BATCH = 64


@dataclass(frozen=True)
class FittedGate:
    """What a manifest says of a gate, and its prototypes, float16 [n, d_s], unit rows.

    `metrics` are the shares that it lets through of validation rows and of queries outside.
    """

    spec: GateSpec
    prototypes: NDArray[np.float16]
    metrics: dict[str, float]


def fit_gate(
    source: AdaptiveVectors,
    rows: Sequence[Example],
    valid: Sequence[Example],
    outside: Sequence[Example],
    outside_valid: Sequence[str],
    seed: int,
) -> FittedGate | None:
    """A gate for the trained tasks; None if no task has validation rows.

    More tasks than a manifest lists are one task of the gate.

    Args:
        source: the trained generator.
        rows: those that it was trained on.
        valid: those that it was not trained on; they set the thresholds.
        outside: what it was trained on that belongs to no task.
        outside_valid: queries of that kind that it was not trained on.
        seed: of the choice of prototypes, where rows are many.
    """
    one = len({example.task for example in rows}) > MAX_TASKS  # more cannot be listed, and have few prototypes each
    trained, unseen = _by_task(rows, one), _by_task(valid, one)
    names, measured = list(trained), [name for name in trained if name in unseen]
    if not measured:
        return None
    most = MAX_PROTOTYPES // (len(names) + bool(outside))
    chosen = [_chosen(trained[name], most, f"{seed}/{name}") for name in names]
    others = _chosen([example.query for example in outside], most, f"{seed}/outside")
    prototypes = _unit(query_states(source, [query for group in (*chosen, others) for query in group]))
    sizes = [len(group) for group in chosen]
    tasks = [GateTask(name=n, prototypes=size, threshold=0, scale=1) for n, size in zip(names, sizes, strict=True)]
    spec = GateSpec(tasks=tasks, outside=len(others))
    states = query_states(source, [query for name in measured for query in unseen[name]])
    of_task = np.repeat([names.index(name) for name in measured], [len(unseen[name]) for name in measured])
    gate = Gate(spec, prototypes)
    inside, apart = (
        np.array([gate.similarities(state) for state in found])
        for found in (states, query_states(source, outside_valid))
    )
    thresholds, scale = fit_thresholds(inside, of_task, apart)
    fitted = [
        task.model_copy(update={"threshold": threshold, "scale": scale})
        for task, threshold in zip(tasks, thresholds, strict=True)
    ]
    shares = {VALID_RECALL: _passing(inside, thresholds), OUTSIDE_STEERED: _passing(apart, thresholds)}
    metrics = {name: share for name, share in shares.items() if share is not None}
    return FittedGate(GateSpec(tasks=fitted, outside=len(others)), prototypes, metrics)


@torch.no_grad()
def query_states(source: AdaptiveVectors, queries: Sequence[str]) -> NDArray[np.float32]:
    """States of queries as they are after training: float32 [n, d_s]."""
    source.eval()
    order = sorted(range(len(queries)), key=lambda index: len(queries[index]))
    states: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        found = source.pooled([queries[index] for index in batch]).float().cpu().numpy()
        states |= dict(zip(batch, found, strict=True))
    return np.array([states[index] for index in range(len(queries))])


def _passing(similarities: NDArray[np.floating], thresholds: Sequence[float]) -> float | None:
    if not len(similarities):
        return None
    return float(((similarities - np.array(thresholds)).max(axis=1) >= 0).mean())


def _by_task(examples: Sequence[Example], one: bool) -> dict[str, list[str]]:
    """The queries of each task, or of all together as if they were one."""
    tasks: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        tasks[ALL_TASKS if one else example.task].append(example.query)
    return dict(tasks)


def _chosen(queries: Sequence[str], most: int, seed: str) -> list[str]:
    unique = list(dict.fromkeys(queries))
    return unique if len(unique) <= most else random.Random(seed).sample(unique, most)


def _unit(states: NDArray[np.float32]) -> NDArray[np.float16]:
    return (states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)).astype(np.float16)
