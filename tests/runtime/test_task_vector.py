"""Task vectors: algebra, steering, and what is not one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from atv_local import Steering, TaskVector
from atv_local.errors import UsageError, VectorError

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=6)
FLOATS = st.floats(-1e3, 1e3, width=32)
VECTORS = SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=FLOATS)).map(TaskVector)


@given(VECTORS, st.floats(-10, 10))
def test_algebra_is_that_of_the_rows(vector: TaskVector, factor: float) -> None:
    assert vector - vector == 0 * vector
    assert -1.0 * -vector == vector
    assert np.allclose((vector + factor * vector).array, vector.array * (1 + factor), atol=1e-2)
    assert np.allclose(vector.norms(), np.sqrt((vector.array.astype(float) ** 2).sum(axis=1)), rtol=1e-5)


@given(VECTORS, st.floats(-3, 3), st.data())
def test_steering_scales_its_layers_and_zeroes_the_rest(
    vector: TaskVector, strength: float, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, vector.n_rows))
    last = data.draw(st.integers(first, vector.n_rows))
    rows = Steering(strength=strength, layers=(first, last)).apply(vector).array
    assert np.array_equal(rows[first - 1 : last], vector.array[first - 1 : last] * np.float32(strength))
    assert not rows[: first - 1].any()
    assert not rows[last:].any()
    with pytest.raises(UsageError):
        Steering(layers=(first, vector.n_rows + 1)).apply(vector)


@pytest.mark.parametrize(
    "array",
    [[], [[]], [1.0, 2.0], [[[1.0]]], [[np.nan]], [[1.0, np.inf]], [["a"]], [[1.0], [1.0, 2.0]], [[1e300]], None],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_is_not_a_vector(array: object) -> None:
    with pytest.raises(VectorError):
        TaskVector(array)  # type: ignore[arg-type]  # the mistake under test


def test_vectors_cannot_be_changed_from_outside() -> None:
    source = np.ones((2, 3), np.float32)
    vector = TaskVector(source)
    source[0] = 5
    assert vector.array[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        vector.array[0, 0] = 2


def test_vectors_of_different_shapes_do_not_add() -> None:
    with pytest.raises(VectorError, match="shapes"):
        TaskVector(np.ones((2, 3))) + TaskVector(np.ones((3, 3)))
