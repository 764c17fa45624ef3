"""The thresholds of a bundle's gate and what the exported graph changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atv_export.gate_of_graphs import gate_of_graphs
from atv_local.generator import Bundle, Generator, read_gate

QUERIES = ["apple 1", "cat 2", "dog 1", "pear 3"]


def thresholds(gated_bundle: Path, states: np.ndarray) -> list[float]:
    spec = gate_of_graphs(Bundle(gated_bundle), QUERIES, states)
    assert spec is not None
    return [task.threshold for task in spec.tasks]


def test_thresholds_stay_where_the_graph_changes_nothing_and_follow_it_down(gated_bundle: Path) -> None:
    bundle = Bundle(gated_bundle)
    generator, gate = Generator(bundle, tried=True), read_gate(bundle)
    assert gate is not None
    assert bundle.manifest.gate is not None
    before = [task.threshold for task in bundle.manifest.gate.tasks]
    own = np.stack([state for state in map(generator.pooled, QUERIES) if state is not None])
    np.testing.assert_allclose(thresholds(gated_bundle, own), before, atol=1e-6)
    moved = own.copy()
    moved[:, 0] += 10  # PyTorch's states are other ones
    lost = min(gate.similarities(a).max() - gate.similarities(b).max() for a, b in zip(moved, own, strict=True))
    found = thresholds(gated_bundle, moved)
    assert all(after <= was for after, was in zip(found, before, strict=True))
    assert (found[0] < before[0]) == (lost > 0)
    raised = thresholds(gated_bundle, -own)
    assert raised == before


def test_a_bundle_without_a_gate_has_none(tiny_bundle: Path) -> None:
    assert gate_of_graphs(Bundle(tiny_bundle), QUERIES, np.zeros((4, 8), np.float32)) is None
