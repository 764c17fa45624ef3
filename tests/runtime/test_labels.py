"""Labels against texts: few different outputs, each of which two rows have on average."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from atv_local.data import MAX_LABELS, are_labels

MANY = [f"label {n}" for n in range(MAX_LABELS)]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([], False),
        (["a"], False),
        (["a", "a"], True),
        (["a", "b"], False),
        (["a", "b", "a"], False),
        (["a", "b", "a", "a"], True),
        (MANY * 2, True),
        (MANY * 2 + ["one more"] * 9, False),
    ],
)
def test_labels_are_few_and_repeat(outputs: Sequence[str], expected: bool) -> None:
    assert are_labels(outputs) is expected
