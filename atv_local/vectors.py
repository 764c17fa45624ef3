"""The task vector: one row per steerable layer. Knows nothing of the models that write or read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    def norms(self) -> NDArray[np.float32]:
        """Euclidean norm of each row, float32 [n_layer-1]."""
        squares: NDArray[np.float32] = np.square(self.array).sum(axis=1)
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

    def save_gguf(self, path: Path, architecture: str = "llama") -> None:
        """Write the control-vector file that llama.cpp's own tools read (`--control-vector`).

        Tensors `direction.1` to `direction.{n_layer-1}`, F32, as written by cvector-generator.
        """
        from gguf import GGUFWriter

        from atv_local.files import replacing

        with replacing(path) as temporary:
            writer = GGUFWriter(temporary, "controlvector")
            writer.add_string("controlvector.model_hint", architecture)
            writer.add_uint32("controlvector.layer_count", self.n_rows)
            for layer, row in enumerate(self.array, start=1):
                writer.add_tensor(f"direction.{layer}", row)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

    @classmethod
    def load_gguf(cls, path: Path, n_rows: int) -> TaskVector:
        """Read a control-vector file for a target with `n_rows` steerable layers; layers it lacks are zero.

        Raises:
            VectorError: not such a file, or a direction outside 1..n_rows.
        """
        from gguf import GGUFReader

        try:
            tensors = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
            directions = {int(name.removeprefix("direction.")): np.asarray(data) for name, data in tensors.items()}
        except Exception as error:  # the reader raises whatever the damage leads it to
            raise VectorError(f"{path} is not a control-vector GGUF: {error}") from error
        if not directions or not all(1 <= layer <= n_rows for layer in directions):
            raise VectorError(f"{path} has directions for layers {sorted(directions)}, the target has 1-{n_rows}")
        widths = {data.shape for data in directions.values()}
        if len(widths) != 1 or any(data.dtype != np.float32 or data.ndim != 1 for data in directions.values()):
            raise VectorError(f"{path} has directions of shapes {sorted(widths)}; all must be float32 of one width")
        rows = np.zeros((n_rows, *widths.pop()), dtype=np.float32)
        for layer, data in directions.items():
            rows[layer - 1] = data
        return cls(rows)
