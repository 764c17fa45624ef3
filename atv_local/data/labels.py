"""Whether a task's outputs are labels or texts: one rule for training, evaluation and answers."""

from __future__ import annotations

from collections.abc import Collection

MAX_LABELS = 50
"""Different outputs of a task up to which they are taken for a fixed set."""


def are_labels(outputs: Collection[str]) -> bool:
    """Whether the outputs of a task's rows, repeats included, come from a fixed set instead of being written for each
    row: at most `MAX_LABELS` different ones, and at least twice as many rows. No outputs are no labels."""
    different = len(set(outputs))
    return 0 < different <= MAX_LABELS and len(outputs) >= 2 * different
