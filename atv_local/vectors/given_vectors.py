"""Control vectors as users give them: files or vectors, each alone or with a factor. And what several are together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atv_local.data import as_number, as_path, is_iterable
from atv_local.errors import UsageError
from atv_local.text import shown
from atv_local.vectors.control_vector import ControlVector, read_control_vector
from atv_local.vectors.scaled_vector import MAX_STRENGTH, ScaledVector
from atv_local.vectors.steering import Positions
from atv_local.vectors.task_vector import TaskVector

VectorSource: TypeAlias = "str | Path | ControlVector | TaskVector | NDArray[np.floating]"
"""A control-vector GGUF, its content, or values that steer all tokens."""
VectorSources: TypeAlias = "Sequence[ScaledVector | VectorSource | tuple[VectorSource, float]]"


def scaled_vectors(given: VectorSources) -> tuple[ScaledVector, ...]:
    """Control vectors from files, arrays or vectors, each alone or with a factor as `(path, factor)`.

    Raises:
        NotFoundError: no such file.
        VectorError: a file that is not a control vector, or an array that is none.
        UsageError: something else than a list of these, or a factor beyond 1000.
    """
    if isinstance(given, str | Path | TaskVector | ControlVector | np.ndarray) or not is_iterable(given):
        raise UsageError(f"`control_vectors` {given!r} is not a list of files or vectors, such as ['happy.gguf']")
    return tuple(_scaled(item) for item in given)


def _scaled(item: ScaledVector | VectorSource | tuple[VectorSource, float]) -> ScaledVector:
    if isinstance(item, ScaledVector):
        return item
    source, factor = item if isinstance(item, tuple) and len(item) == 2 else (item, 1.0)
    factor = as_number("control_vectors", factor, -MAX_STRENGTH, MAX_STRENGTH)
    if isinstance(source, np.ndarray):
        source = TaskVector(source)
    if isinstance(source, TaskVector):
        source = ControlVector.of(source)
    if not isinstance(source, ControlVector):
        source = read_control_vector(as_path("control_vectors", source))
    return ScaledVector(source, factor)


def parse_scaled_file(text: str) -> tuple[Path, float]:
    """`FILE:SCALE`, as llama.cpp's `--control-vector-scaled` takes it.

    Raises:
        UsageError: no number after a colon.
    """
    name, _, scale = text.rpartition(":")
    try:
        factor = float(scale)
    except ValueError:
        factor = float("nan")
    if not name or not abs(factor) <= MAX_STRENGTH:  # NaN too
        raise UsageError(
            f"`control_vector_scaled` {text!r} is not FILE:SCALE with a scale within {MAX_STRENGTH:g}, "
            "such as happy.gguf:0.8"
        )
    return Path(name), factor


def split_files(text: str) -> list[str]:
    """The files that one option names, with commas between, as llama.cpp's options take them.

    A file that exists is one, whatever its name has in it; with a scale behind it too.

    Raises:
        UsageError: nothing before or after a comma.
    """
    name, _, scale = text.rpartition(":")
    if _is_file(text) or ("," not in scale and _is_file(name)):
        return [text]
    files = [file.strip() for file in text.split(",")]
    if not all(files):
        raise UsageError(f"{shown(text)} has an empty name beside a comma; leave the comma out")
    return files


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def parse_vector_file(text: str) -> tuple[Path, float]:
    """`FILE` or `FILE:SCALE`: what is not a file, and has a number after its last colon or a file before it.

    Raises:
        UsageError: a scale that is not a number, or beyond 1000, or no name of a file.
    """
    name, colon, scale = text.rpartition(":")
    try:
        float(scale)
    except ValueError:
        scaled = bool(name) and as_path("control_vectors", name).is_file()
    else:
        scaled = bool(colon)
    scaled = scaled and not as_path("control_vectors", text).is_file()
    return parse_scaled_file(text) if scaled else (as_path("control_vectors", text), 1.0)


def sum_control_vectors(vectors: Sequence[ScaledVector], n_rows: int, n_embd: int) -> TaskVector:
    """The sum of several control vectors, each times its factor.

    Args:
        vectors: with their factors.
        n_rows: number of steerable layers of the target.
        n_embd: width of the target's hidden state.

    Raises:
        VectorError: one for a target of another shape, or a sum that is not finite.
    """
    total = TaskVector(np.zeros((n_rows, n_embd), dtype=np.float32))
    for scaled in vectors:
        scaled.vector.check_shape(n_rows, n_embd)
        total = total + scaled.scale * scaled.vector.vector(n_rows)
    return total


def trained_positions(vectors: Sequence[ScaledVector]) -> Positions:
    """The positions that all were made for, if all are ours and agree; else all, as in llama.cpp's tools."""
    positions = {scaled.vector.provenance.get("positions") for scaled in vectors}
    return next((choice for choice in Positions if positions == {choice.value}), Positions.ALL)
