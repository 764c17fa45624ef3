"""The task vector: one row per steerable layer. Knows nothing of the models that write or read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atv_local.errors import VectorError


@dataclass(frozen=True, eq=False)
class TaskVector:
    """float32 [n_layer-1, n_embd]; row k is added to the output of layer k+1 (llama.cpp's numbering).

    The array is copied and made read-only.

    Raises:
        VectorError: not two-dimensional, empty, not numeric, or with NaN or infinite values.
    """

    array: NDArray[np.float32]

    def __init__(self, array: ArrayLike) -> None:
        try:
            rows = np.array(array, dtype=np.float32, order="C")
        except (TypeError, ValueError) as error:
            raise VectorError(f"a task vector is an array of float32 [n_layer-1, n_embd]: {error}") from error
        if rows.ndim != 2 or rows.size == 0:
            raise VectorError(f"a task vector has shape [n_layer-1, n_embd], not {list(rows.shape)}")
        if not np.isfinite(rows).all():
            raise VectorError(f"{np.count_nonzero(~np.isfinite(rows))} values of the task vector are NaN or infinite")
        rows.flags.writeable = False
        object.__setattr__(self, "array", rows)

    @property
    def n_rows(self) -> int:
        """Number of steerable layers, n_layer-1 of the target."""
        return int(self.array.shape[0])

    @property
    def n_embd(self) -> int:
        """Width of the target's hidden state."""
        return int(self.array.shape[1])

    def norms(self) -> NDArray[np.float64]:
        """Euclidean norm of each row, float64 [n_layer-1]."""
        squares: NDArray[np.float64] = np.square(self.array, dtype=np.float64).sum(axis=1)  # a large one has a norm too
        return np.sqrt(squares)

    def only(self, first: int, last: int) -> TaskVector:
        """This vector with every layer outside `first` to `last` (1-based, inclusive) set to zero."""
        rows = np.zeros_like(self.array)
        rows[first - 1 : last] = self.array[first - 1 : last]
        return TaskVector(rows)

    def __add__(self, other: TaskVector) -> TaskVector:
        if self.array.shape != other.array.shape:
            raise VectorError(f"cannot add task vectors of shapes {self.array.shape} and {other.array.shape}")
        return TaskVector(self.array + other.array)

    def __mul__(self, factor: float) -> TaskVector:
        return TaskVector(self.array * np.float32(factor))

    __rmul__ = __mul__

    def __neg__(self) -> TaskVector:
        return TaskVector(-self.array)

    def __sub__(self, other: TaskVector) -> TaskVector:
        return self + -other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskVector) and np.array_equal(self.array, other.array)

    __hash__ = None  # type: ignore[assignment]  # compares by value, holds an array
