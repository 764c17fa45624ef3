"""The gate of a bundle: its thresholds follow what the exported graphs change of a query's state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atv_local.generator import Bundle, Gate, GateSpec, Generator, read_gate


def gate_of_graphs(bundle: Bundle, queries: Sequence[str], states: NDArray[np.float32]) -> GateSpec | None:
    """The gate, its thresholds lowered by what a quantised graph takes from the similarity of queries that barely pass.

    Training fits thresholds to PyTorch's states. Without this, fewer queries would pass than did there.

    Args:
        bundle: has the gate as training fitted it; None without one.
        queries: of the tasks.
        states: PyTorch's, [n_queries, d_s].
    """
    gate, spec = read_gate(bundle), bundle.manifest.gate
    if gate is None or spec is None:
        return None
    lost = max(0.0, *(_lost(gate, Generator(bundle, precision=p, tried=True), queries, states) for p in bundle.graphs))
    tasks = [task.model_copy(update={"threshold": task.threshold - lost}) for task in spec.tasks]
    return spec.model_copy(update={"tasks": tasks})


def _lost(gate: Gate, generator: Generator, queries: Sequence[str], states: NDArray[np.float32]) -> float:
    """The mean difference of the largest similarity, from PyTorch's state to that of a graph, of the lowest quarter."""
    found = [generator.pooled(query) for query in queries]
    pairs = [(before, after) for before, after in zip(states, found, strict=True) if after is not None]
    largest = np.sort([[gate.similarities(state).max() for state in pair] for pair in pairs], axis=0)
    lowest = largest[: max(1, len(largest) // 4)]
    return float((lowest[:, 0] - lowest[:, 1]).mean())
