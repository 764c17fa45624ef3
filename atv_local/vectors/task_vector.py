"""The task vector: one vector for each steerable layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from atv_local.data import as_path, check_replaceable_file
from atv_local.errors import VectorError
from atv_local.text import shown
from atv_local.vectors.steering import layer_range


@dataclass(frozen=True, eq=False, repr=False)
class TaskVector:
    """A vector for every steerable layer of a target: float32 [n_layer-1, n_embd].

    `v[k]` is added to the output of layer k+1, in llama.cpp's numbering. `np.asarray` takes a task vector without a
    copy; `v[...]`, `len` and iteration are those of the array. `+`, `-`, `*` and `/` work with numbers, task vectors
    and arrays that broadcast to its shape, in float32. `==` compares all values. The values cannot be changed.

    A task vector may have other values for the prompt's tokens before the last one, its prompt vector, which
    `Positions.ALL` applies there. Arithmetic and `==` take it into account; what makes an array of it does not.

    Args:
        array: anything that becomes a float32 array of that shape; it is copied.
        prompt: a prompt vector of the same shape; by default those tokens get `array` as well.

    Raises:
        VectorError: not two-dimensional, empty, not numeric, of two shapes, or with NaN or infinite values. Arithmetic
            raises it too.
    """

    array: NDArray[np.float32]
    """The values, read-only."""
    prompt: TaskVector | None = None
    """The prompt vector, if it has one of its own."""

    __array_priority__ = 1000  # `array + vector` and `np.float32(2) * vector` are task vectors as well

    def __init__(self, array: ArrayLike, prompt: TaskVector | ArrayLike | None = None) -> None:
        rows = np.ascontiguousarray(_float32(array))
        if rows.ndim != 2 or rows.size == 0:
            raise VectorError(f"a task vector has shape [n_layer-1, n_embd], not {list(rows.shape)}")
        if not np.isfinite(rows).all():
            raise VectorError(f"{np.count_nonzero(~np.isfinite(rows))} values of the task vector are NaN or infinite")
        rows.flags.writeable = False
        if prompt is not None:
            prompt = TaskVector(prompt.array if isinstance(prompt, TaskVector) else prompt)
            if prompt.shape != rows.shape:
                raise VectorError(
                    f"a prompt vector of shape {list(prompt.shape)} does not fit one of {list(rows.shape)}"
                )
        object.__setattr__(self, "array", rows)
        object.__setattr__(self, "prompt", prompt)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the values of a control-vector GGUF, whichever program wrote it; layers that it lacks are zero.

        The positions and the target that the file may name are left out: to steer with a file as it is, give its path
        to `atv_local.load` or `Engine.answer`.

        Raises:
            NotFoundError: no such file.
            VectorError: a file of another kind, or a damaged one.
        """
        from atv_local.vectors.control_vector import read_control_vector

        return cls(read_control_vector(as_path("path", path)).vector())

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the values as a control-vector GGUF, which llama.cpp's tools and repeng read.

        The file says neither which tokens to steer nor which target it is for, so it steers all tokens and fits every
        target of its shape. `Engine.control_vector` makes one that says both. A prompt vector has no place in it.

        Args:
            path: the file to write.
            overwrite: replace a control vector that is there; any other file is never replaced.

        Raises:
            UsageError: the file exists or cannot be written.
        """
        from atv_local.vectors.control_vector import is_control_vector, write_control_vector

        path = as_path("path", path)
        check_replaceable_file(path, is_control_vector, "control vector", overwrite=overwrite)
        write_control_vector(self, path)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_layer-1, n_embd)."""
        return self.n_rows, self.n_embd

    @property
    def n_rows(self) -> int:
        """Number of steerable layers, n_layer-1 of the target."""
        return int(self.array.shape[0])

    @property
    def n_embd(self) -> int:
        """Width of the target's hidden state."""
        return int(self.array.shape[1])

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        return self.array.dtype

    def norms(self) -> NDArray[np.float64]:
        """Euclidean norm at each layer, float64 [n_layer-1]."""
        squares: NDArray[np.float64] = np.square(self.array, dtype=np.float64).sum(axis=1)  # in float32 it may overflow
        return np.sqrt(squares)

    def only(self, first: int, last: int) -> TaskVector:
        """This vector with every layer outside `first` to `last` (1-based, inclusive) set to zero.

        Raises:
            UsageError: a layer it does not have, or `first` after `last`.
        """
        first, last = layer_range((first, last), self.n_rows)
        rows = np.zeros_like(self.array)
        rows[first - 1 : last] = self.array[first - 1 : last]
        return TaskVector(rows, self.prompt and self.prompt.only(first, last))

    @property
    def at_prompt(self) -> TaskVector:
        """What `Positions.ALL` adds to the prompt's tokens before the last one."""
        return self if self.prompt is None else self.prompt

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.array.dtype:
            raise ValueError(f"a task vector is float32 and cannot become {np.dtype(dtype)} without a copy")
        array = np.asarray(self.array, dtype=dtype)
        return array.copy() if copy else array

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.array)

    def __add__(self, other: TaskVector | ArrayLike) -> TaskVector:
        return self._combine(np.add, other)

    __radd__ = __add__

    def __sub__(self, other: TaskVector | ArrayLike) -> TaskVector:
        return self._combine(np.subtract, other)

    def __rsub__(self, other: TaskVector | ArrayLike) -> TaskVector:
        return -self + other

    def __mul__(self, other: TaskVector | ArrayLike) -> TaskVector:
        return self._combine(np.multiply, other)

    __rmul__ = __mul__

    def __truediv__(self, other: TaskVector | ArrayLike) -> TaskVector:
        return self._combine(np.divide, other)

    def __rtruediv__(self, other: TaskVector | ArrayLike) -> TaskVector:
        return self._combine(lambda rows, values: np.divide(values, rows), other)

    def __neg__(self) -> TaskVector:
        return -1 * self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskVector):
            return isinstance(other, np.ndarray) and self.prompt is None and np.array_equal(self.array, other)
        pairs = (self, other), (self.at_prompt, other.at_prompt)
        return all(np.array_equal(one.array, another.array) for one, another in pairs)

    __hash__ = None  # type: ignore[assignment]  # compares by value, holds an array

    def __reduce__(self) -> tuple[type[Self], tuple[NDArray[np.float32], TaskVector | None]]:
        return type(self), (self.array, self.prompt)  # copies and pickles are checked and read-only too

    def __repr__(self) -> str:
        prompt = "" if self.prompt is None else ", with a prompt vector"
        return f"TaskVector({self.n_rows} layers of width {self.n_embd}, norms up to {self.norms().max():.3g}{prompt})"

    def _combine(self, operation: Callable[..., NDArray[Any]], other: TaskVector | ArrayLike) -> TaskVector:
        values = _float32(other)
        with np.errstate(all="ignore"):  # values that are not finite are refused below
            try:
                result = operation(self.array, values)
            except ValueError:
                result = None
        if result is None or result.shape != self.shape:
            raise VectorError(f"the shapes {self.shape} of a task vector and {values.shape} do not fit together")
        if self.prompt is None and not (isinstance(other, TaskVector) and other.prompt is not None):
            return TaskVector(result)
        at_prompt = TaskVector(self.at_prompt.array)
        return TaskVector(result, at_prompt._combine(operation, getattr(other, "at_prompt", other)))


def _float32(values: Any) -> NDArray[np.float32]:
    """A copy as float32; texts and None are no numbers, although NumPy makes some of them."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":  # such as fractions
            array = np.asarray(np.frompyfunc(float, 1, 1)(array), dtype=np.float64)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"its values are {array.dtype}")
        with np.errstate(over="ignore"):  # infinite values are refused
            return array.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise VectorError(f"{shown(values)} is neither a number nor an array that becomes float32: {error}") from error
