"""Control-vector files: the GGUFs that llama.cpp's tools and repeng read and write.

Tensors `direction.N`, N from 1, one-dimensional; several files add up, and layers that a file lacks are zero
(llama.cpp, `common_control_vector_load`, which takes F32 only; here any number format is read).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from atv_local.data import CONTROL_VECTOR, FileKind, as_path, check_replaceable_file, file_kind, reading, replacing
from atv_local.errors import UsageError, VectorError
from atv_local.vectors import gguf_file
from atv_local.vectors.steering import Positions
from atv_local.vectors.target_spec import TargetSpec
from atv_local.vectors.task_vector import TaskVector

ARCHITECTURE = "controlvector"
OURS = "atv"
"""Prefix of the keys that say where a file of ours comes from. Other readers ignore them."""
_MAX_BYTES, _MAX_LAYER = 1 << 30, 4096


@dataclass(frozen=True, eq=False, repr=False)
class ControlVector:
    """The content of a control-vector file: a vector, and where it comes from.

    `Engine.control_vector` makes one.

    Attributes:
        path: the file that it was read from, None if it was made here.
        rows: float32 [n_embd] for each layer that it has; layers are counted from 1.
        model_hint: the target's architecture, empty if it is not known.
        provenance: what it was made from and for, such as `positions` and `vocabulary_sha256`: the `atv.*` keys of the
            file. Empty in files of other programs.
        file_sha256: of the file that it was read from.
    """

    path: Path | None
    rows: Mapping[int, Any]
    model_hint: str
    provenance: Mapping[str, str]
    file_sha256: str | None = None

    @classmethod
    def load(cls, path: str | Path) -> ControlVector:
        """Read a control-vector GGUF, whichever program wrote it.

        Raises:
            NotFoundError: no such file.
            VectorError: a file of another kind, or a damaged one.
        """
        return read_control_vector(as_path("path", path))

    @classmethod
    def of(cls, vector: TaskVector, architecture: str = "", provenance: Mapping[str, str] | None = None) -> Self:
        """A task vector as the content of a file; by default nothing is known of where it comes from."""
        return cls(None, dict(enumerate(vector.array, start=1)), architecture, provenance or {})

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the file, which llama.cpp's tools and repeng read, and `load` with the positions it was made for.

        Args:
            path: the file to write.
            overwrite: replace a file that this method or `atv-local vector` wrote; any other is never replaced.

        Raises:
            UsageError: the file exists or cannot be written.
        """
        path = as_path("path", path)
        check_control_vector_output(path, overwrite=overwrite)
        write_control_vector(self.vector(), path, self.model_hint, self.provenance)

    def __repr__(self) -> str:
        positions = self.provenance.get("positions", Positions.ALL.value)
        return f"ControlVector({len(self.rows)} layers of width {self.n_embd}, positions={positions!r})"

    @property
    def name(self) -> str:
        """The name of its file; `vector` for one that was made here."""
        return "vector" if self.path is None else self.path.name

    @cached_property
    def sha256(self) -> str:
        """Of the file that it was read from, otherwise of its values."""
        if self.file_sha256 is not None:
            return self.file_sha256
        content = hashlib.sha256()
        for layer in sorted(self.rows):
            content.update(struct.pack("<I", layer) + np.asarray(self.rows[layer], dtype="<f4").tobytes())
        return content.hexdigest()

    @property
    def _name(self) -> str:
        return "the control vector" if self.path is None else str(self.path)

    @property
    def n_embd(self) -> int:
        """Width of the directions."""
        return int(next(iter(self.rows.values())).shape[0])

    def vector(self, n_rows: int | None = None) -> TaskVector:
        """The file as a task vector; layers that it lacks are zero.

        Args:
            n_rows: number of steerable layers of the target; by default up to the last layer of the file.

        Raises:
            VectorError: a direction for a layer that the target does not have.
        """
        n_rows = n_rows or max(self.rows)
        self.check_shape(n_rows, self.n_embd)
        array = np.zeros((n_rows, self.n_embd), dtype=np.float32)
        for layer, row in self.rows.items():
            array[layer - 1] = row
        return TaskVector(array)

    def check_target(self, target: TargetSpec) -> None:
        """Raise VectorError unless it fits a target: its shape, and its vocabulary where the file says one."""
        vocabulary = self.provenance.get("vocabulary_sha256", target.vocabulary_sha256)
        if vocabulary != target.vocabulary_sha256:
            made_for = self.provenance.get("target", "another target")
            raise VectorError(
                f"{self._name} was made for {made_for!r}, whose vocabulary is not that of {target.name!r}"
            )
        self.check_shape(target.n_layer - 1, target.n_embd)

    def check_shape(self, n_rows: int, n_embd: int) -> None:
        """Raise VectorError for directions of another width, or for layers that are not there."""
        if self.n_embd != n_embd:
            raise VectorError(f"{self._name} has directions of width {self.n_embd}, the target has {n_embd}")
        if max(self.rows) > n_rows:
            layers = f"{min(self.rows)}-{max(self.rows)}"
            raise VectorError(f"{self._name} has directions for layers {layers}, the target has 1-{n_rows}")


def read_control_vector(path: Path) -> ControlVector:
    """Read a file, whichever program wrote it.

    Raises:
        NotFoundError: no such file.
        VectorError: a file of another kind, or a damaged one.
    """
    kind = _kind(path)
    if kind != CONTROL_VECTOR:
        raise VectorError(f"{path} is not a control-vector GGUF: it is {kind.words}")
    if path.stat().st_size > _MAX_BYTES:
        raise VectorError(f"{path} is larger than any control vector: {path.stat().st_size} bytes")
    try:
        data = path.read_bytes()
        content = gguf_file.parse(data)
        rows = {_layer(name): row for name, row in content.tensors.items()}
    except (ValueError, OSError) as error:
        raise VectorError(f"{path} is a damaged control-vector GGUF: {error}") from error
    widths = sorted({len(row) for row in rows.values()})
    if len(widths) != 1:
        raise VectorError(f"{path} has directions of widths {widths}; there must be some, all of one width")
    if not all(np.isfinite(row).all() for row in rows.values()):
        raise VectorError(f"{path} has values that are NaN or infinite")
    prefix = f"{OURS}."
    provenance = {name.removeprefix(prefix): str(v) for name, v in content.values.items() if name.startswith(prefix)}
    model_hint = str(content.values.get(f"{ARCHITECTURE}.model_hint", ""))
    return ControlVector(path, rows, model_hint, provenance, hashlib.sha256(data).hexdigest())


def write_control_vector(
    vector: TaskVector, path: Path, architecture: str = "llama", provenance: Mapping[str, str] | None = None
) -> None:
    """Write a file that `llama-cli --control-vector` and repeng read.

    Args:
        vector: `vector[k]` becomes layer k+1.
        path: replaced if it exists.
        architecture: the target's, as in its GGUF; a hint for people and for repeng.
        provenance: written as `atv.*` keys.

    Raises:
        UsageError: the file cannot be written.
    """
    from gguf import GGUFWriter

    with replacing(path) as temporary:
        writer = GGUFWriter(temporary, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", architecture)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", vector.n_rows)
        for key, value in (provenance or {}).items():
            writer.add_string(f"{OURS}.{key}", value)
        for layer, row in enumerate(vector.array, start=1):
            writer.add_tensor(f"direction.{layer}", row)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if not _is_complete(temporary, vector):
            raise UsageError(f"cannot write {path}: not all of it was stored, as on a full disk")


def _is_complete(path: Path, vector: TaskVector) -> bool:
    """Whether a file has all values: ndarray.tofile, by which gguf writes, ignores an error at the end of a write."""
    try:
        tensors = gguf_file.parse(path.read_bytes()).tensors
    except ValueError:
        return False
    return all(np.array_equal(tensors[f"direction.{k}"], row) for k, row in enumerate(vector.array, start=1))


def is_control_vector(path: Path) -> bool:
    """Whether the file at `path` is a GGUF whose architecture says so.

    Raises:
        VectorError: it cannot be read.
    """
    return _kind(path) == CONTROL_VECTOR


def _kind(path: Path) -> FileKind:
    with reading(f"the control vector {path}", VectorError):
        return file_kind(path)


def check_control_vector_output(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a file that `ControlVector.save` must not replace."""

    def is_ours(file: Path) -> bool:
        return is_control_vector(file) and bool(read_control_vector(file).provenance)

    check_replaceable_file(path, is_ours, "control vector that says what it was made from", overwrite=overwrite)


def _layer(name: str) -> int:
    prefix, _, number = name.partition(".")
    if prefix != "direction" or not number.isdecimal() or not 1 <= int(number[:9]) <= _MAX_LAYER:
        raise ValueError(f"it has a tensor {name!r}")
    return int(number)
