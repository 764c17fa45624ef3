"""Task vectors: algebra, files, and what is not one."""

from __future__ import annotations

from pathlib import Path

import gguf
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


@given(vector=VECTORS)
def test_a_control_vector_file_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, vector: TaskVector) -> None:
    path = tmp_path_factory.mktemp("vector") / "v.gguf"
    vector.save_gguf(path)
    assert TaskVector.load_gguf(path, vector.n_rows) == vector
    names = [tensor.name for tensor in gguf.GGUFReader(path).tensors]
    assert names == [f"direction.{layer}" for layer in range(1, vector.n_rows + 1)]


def test_layers_a_file_lacks_are_zero_and_those_too_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.gguf"
    TaskVector(np.ones((3, 8))).save_gguf(path)
    assert TaskVector.load_gguf(path, 5).norms().tolist()[3:] == [0, 0]
    with pytest.raises(VectorError, match="the target has 1-2"):
        TaskVector.load_gguf(path, 2)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 40, b"junk" * 10])
def test_a_file_that_is_no_control_vector_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.gguf"
    path.write_bytes(content)
    with pytest.raises(VectorError, match="not a control-vector GGUF"):
        TaskVector.load_gguf(path, 3)


def test_a_model_is_no_control_vector(tiny_gguf: Path) -> None:
    with pytest.raises(VectorError, match="not a control-vector GGUF"):
        TaskVector.load_gguf(tiny_gguf, 3)


@pytest.mark.parametrize(
    "array",
    [[], [[]], [1.0, 2.0], [[[1.0]]], [[np.nan]], [[1.0, np.inf]], [["a"]], [[1.0], [1.0, 2.0]], [[1e300]], None],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_is_not_a_vector(array: object) -> None:
    with pytest.raises(VectorError):
        TaskVector(array)  # type: ignore[arg-type]


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
