"""Labels against texts: few different outputs, each of which two rows have on average."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from atv_local.data import MAX_LABEL_CHARS, MAX_LABELS, are_labels

MANY = [f"label {n}" for n in range(MAX_LABELS)]
"""As many as there can be; `BANKING` and `CLINC` are as many as those data sets have."""
BANKING, CLINC = MANY[:77], MANY[:150]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([], False),
        (["a"], False),
        (["a", "a"], True),
        (["a", "b"], False),
        (["a", "b", "a"], False),
        (["a", "b", "a", "a"], True),
        (MANY[:50] * 2, True),
        (BANKING * 10, True),
        (CLINC * 4, True),
        (CLINC * 3, False),  # as words that are picked from the query
        (MANY * 4, True),
        (MANY * 4 + ["one more"] * 9, False),
        (["x" * MAX_LABEL_CHARS] * 9, True),
        (["x" * (MAX_LABEL_CHARS + 1)] * 9, False),
    ],
)
def test_labels_are_few_and_repeat(outputs: Sequence[str], expected: bool) -> None:
    assert are_labels(outputs) is expected
