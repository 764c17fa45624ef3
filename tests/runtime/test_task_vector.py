"""Task vectors: algebra, steering, and what is not one."""

from __future__ import annotations

import copy
import json
import operator
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from atv_local import Steering, TaskVector
from atv_local.errors import UsageError, VectorError
from atv_local.vectors import random_vector

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
    [
        [],
        [[]],
        [1.0, 2.0],
        [[[1.0]]],
        [[np.nan]],
        [[1.0, np.inf]],
        [["a"]],
        [[1.0], [1.0, 2.0]],
        [[1e300]],
        None,
        [["1"]],
        [[None]],
        [[1j]],
    ],
)
def test_what_is_not_a_vector(array: object) -> None:
    with pytest.raises(VectorError):
        TaskVector(array)  # type: ignore[arg-type]  # the mistake under test


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("operation", OPERATORS)
@given(data=st.data())
def test_operators_compute_in_float32_as_arrays_do(operation: Callable[..., Any], data: st.DataObject) -> None:
    vector = data.draw(VECTORS)
    values = arrays(np.float32, vector.shape, elements=st.floats(0.5, 1e3, width=32))
    rows = arrays(np.float32, (vector.n_rows, 1), elements=st.floats(0.5, 1e3, width=32))
    other = data.draw(st.one_of(st.floats(0.5, 10), st.integers(1, 9), values, rows, values.map(TaskVector)))
    result = operation(vector, other)
    assert isinstance(result, TaskVector)
    assert np.array_equal(result.array, operation(vector.array, np.asarray(other, np.float32)))
    if operation is operator.truediv and not vector.array.all():
        return
    with np.errstate(over="ignore"):
        swapped_rows = operation(np.asarray(other, np.float32), vector.array)
    if not np.isfinite(swapped_rows).all():
        return
    swapped = operation(other, vector)
    assert isinstance(swapped, TaskVector)
    assert swapped == swapped_rows


@pytest.mark.parametrize("factor", [2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.array(2.0)])
def test_every_kind_of_number_is_a_factor(factor: Any) -> None:
    vector = TaskVector(np.arange(6.0).reshape(2, 3))
    assert isinstance(factor * vector, TaskVector)
    assert factor * vector == vector * factor == vector + vector == TaskVector(2 * vector.array)


@given(VECTORS)
def test_an_array_is_the_vector_itself(vector: TaskVector) -> None:
    array = np.asarray(vector)
    assert np.shares_memory(array, vector.array)
    assert np.shares_memory(np.asarray(vector, np.float32), vector.array)
    assert np.asarray(vector, np.float64).dtype == np.float64
    copied = np.array(vector)
    copied[0, 0] += 1
    assert np.array_equal(array, vector.array)
    assert TaskVector(vector) == vector == array
    assert (len(vector), vector.n_embd) == vector.shape == array.shape
    assert np.linalg.norm(vector, axis=1) == pytest.approx(vector.norms(), rel=1e-5)


@given(VECTORS)
def test_equality_is_that_of_all_values(vector: TaskVector) -> None:
    assert vector == TaskVector(vector.array.copy())
    assert vector != vector + 1
    assert vector != TaskVector(np.zeros((vector.n_rows + 1, vector.n_embd)))
    assert vector != "a text"


@given(VECTORS.filter(lambda vector: len(vector) > 0))
def test_a_saved_vector_is_loaded_again(tmp_path_factory: pytest.TempPathFactory, vector: TaskVector) -> None:
    path = tmp_path_factory.mktemp("vector") / "v.gguf"
    vector.save(path)
    assert TaskVector.load(path) == vector
    with pytest.raises(UsageError, match="`overwrite=True`"):
        vector.save(path)
    vector.save(str(path), overwrite=True)
    assert TaskVector.load(str(path)) == vector


def test_a_file_of_others_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("my notes")
    with pytest.raises(UsageError, match="choose another output"):
        TaskVector(np.ones((2, 3))).save(tmp_path / "mine.txt", overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "my notes"


def test_a_vector_says_what_it_is() -> None:
    text = repr(TaskVector(np.full((2, 3), 2.0)))
    assert "2 layers of width 3" in text
    assert "3.46" in text


@pytest.mark.parametrize("operation", OPERATORS)
@pytest.mark.parametrize("other", [np.ones((3, 3)), np.ones(2), [1.0, 2.0], np.ones((1, 2, 3))])
def test_shapes_that_do_not_fit_are_named(operation: Callable[..., Any], other: Any) -> None:
    with pytest.raises(VectorError, match=r"\(2, 3\)"):
        operation(TaskVector(np.ones((2, 3))), other)


def test_results_that_are_not_finite_are_refused() -> None:
    vector = TaskVector(np.ones((2, 3)))
    for other in (0, float("nan"), np.inf, 1e300):
        with pytest.raises(VectorError, match="NaN or infinite"):
            vector / other if other == 0 else vector * other


@pytest.mark.parametrize("operation", OPERATORS)
@pytest.mark.parametrize("other", ["a text", "1", None, {}, 1j, 10**400, object()])
def test_what_is_no_number_is_named(operation: Callable[..., Any], other: Any) -> None:
    vector = TaskVector(np.ones((2, 3)))
    for pair in ((vector, other), (other, vector)):
        with pytest.raises(VectorError, match=re.escape(repr(other)[:20])):
            operation(*pair)


@given(VECTORS)
def test_rows_are_those_of_the_array(vector: TaskVector) -> None:
    assert np.array_equal(list(vector), vector.array)
    assert np.array_equal(vector[0], vector.array[0])
    assert vector[-1, 0] == vector.array[-1, 0]
    assert vector.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        vector[0][:] = 1


@pytest.mark.parametrize("layers", [(0, 3), (5, 2), (2, 4), (-1, 2), (1, 2.0), (True, 2), ("1", 2), (None, None)])
def test_layers_that_a_vector_lacks_are_refused(layers: Any) -> None:
    with pytest.raises(UsageError, match=r"`layers`.* (steerable layers are 1 to 3|a pair)"):
        TaskVector(np.ones((3, 2))).only(*layers)


@pytest.mark.parametrize("layers", [(True, 2), (1, 2.5), (0, 2), (3, 2), (1, 2, 3), 3, "a", (np.True_, 2)])
def test_layers_that_are_no_range_are_refused(layers: Any) -> None:
    with pytest.raises(UsageError, match="`layers`"):
        Steering(layers=layers)


def test_numbers_of_numpy_are_numbers() -> None:
    steering = Steering(np.float32(0.5), (np.int64(1), np.int8(3)))  # type: ignore[arg-type]
    assert steering == Steering(0.5, (1, 3))
    assert json.dumps([steering.strength, steering.layers]) == "[0.5, [1, 3]]"
    assert TaskVector(np.ones((3, 2))).only(np.int64(2), 2).norms().argmax() == 1  # type: ignore[arg-type]


def test_vectors_cannot_be_changed_from_outside() -> None:
    source = np.ones((2, 3), np.float32)
    vector = TaskVector(source)
    source[0] = 5
    assert vector.array[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        vector.array[0, 0] = 2


def test_vectors_of_different_shapes_do_not_add() -> None:
    with pytest.raises(VectorError, match=r"\(2, 3\).*\(3, 3\)"):
        TaskVector(np.ones((2, 3))) + TaskVector(np.ones((3, 3)))


def test_noise_takes_the_norms_of_a_vector() -> None:
    vector = TaskVector(np.random.default_rng(0).normal(size=(5, 8)) * np.arange(5)[:, None])
    noise = random_vector(*vector.shape, seed=1, norms=vector.norms())
    assert noise.norms() == pytest.approx(vector.norms(), rel=1e-5)
    assert noise != vector


def test_noise_is_that_of_its_seed() -> None:
    assert random_vector(5, 64) == random_vector(5, 64) != random_vector(5, 64, seed=1)
    assert random_vector(5, 64).array.std() == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda vector: pickle.loads(pickle.dumps(vector))])
def test_copies_are_equal_and_read_only(copied: Callable[[TaskVector], TaskVector]) -> None:
    vector = TaskVector(np.arange(6.0).reshape(2, 3))
    other = copied(vector)
    assert other == vector
    with pytest.raises(ValueError, match="read-only"):
        other.array[0, 0] = np.nan
