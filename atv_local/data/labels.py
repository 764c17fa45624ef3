"""Whether a task's outputs are labels or texts: one rule for training, evaluation and answers."""

from __future__ import annotations

from collections.abc import Collection

MAX_LABELS = 256
"""Different outputs of a task up to which they can be a fixed set, and allowed answers of a request. Data sets of many
classes have 77 or 150 of them; to choose an answer each is evaluated, which takes some milliseconds."""
MAX_LABEL_CHARS = 256
"""Of one label; those of a data set are a few words. Longer outputs are texts."""
_FEW_LABELS = 50
_ROWS_PER_LABEL, _ROWS_PER_MANY_LABELS = 2, 4
"""Words that are picked from the query are also 150 different ones in 400 rows, but rarely so many times each."""


def are_labels(outputs: Collection[str]) -> bool:
    """Whether the outputs of a task's rows, repeats included, come from a fixed set instead of being written for each
    row: at most `MAX_LABELS` different ones, each short, and at least twice as many rows; four times as many where more
    than 50 differ. No outputs are no labels."""
    different = set(outputs)
    per_label = _ROWS_PER_LABEL if len(different) <= _FEW_LABELS else _ROWS_PER_MANY_LABELS
    return (
        0 < len(different) <= MAX_LABELS
        and len(outputs) >= per_label * len(different)
        and max(map(len, different)) <= MAX_LABEL_CHARS
    )
