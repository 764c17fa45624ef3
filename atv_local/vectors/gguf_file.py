"""Reads the tensors of small GGUF files, also of malformed or hostile ones, whichever number format they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_local.data import GgufHeader

_F32 = 0
_MAX_TENSORS = 1 << 16
_MAX_AXES = 4  # of ggml
_MAX_VALUES = 1 << 28
"""Of all tensors, 1 GB as float32. Some number formats take a twentieth of that in the file."""


@dataclass(frozen=True)
class GgufFile:
    """Its single values by key (arrays are left out), and its tensors, float32 and one-dimensional, by name."""

    values: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Place:
    offset: int
    n_values: int
    n_bytes: int
    number_format: int


def parse(data: bytes) -> GgufFile:
    """Read the whole file.

    Raises:
        ValueError: not such a file, a length past its end, or a tensor of another kind.
    """
    header = GgufHeader(data)
    if header.n_tensors > _MAX_TENSORS:
        raise ValueError(f"it declares {header.n_tensors} tensors")
    values = {key: value for key, value in header.values() if value is not None}
    places: dict[str, _Place] = {}
    for _ in range(header.n_tensors):
        name = header.text()
        if name in places:
            raise ValueError(f"its tensor {name!r} comes twice")
        places[name] = _place(header, name)
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16:
        raise ValueError(f"its alignment is {alignment!r}")
    start = -(-header.at // alignment) * alignment
    if sum(place.n_bytes for place in places.values()) > len(data):
        raise ValueError("its tensors are larger than the file")
    if sum(place.n_values for place in places.values()) > _MAX_VALUES:
        raise ValueError(f"its tensors have more than {_MAX_VALUES} values")
    tensors = {}
    for name, place in places.items():
        first = start + place.offset
        if not 0 < place.n_bytes <= len(data) - first:
            raise ValueError(f"its tensor {name!r} is not within the file")
        raw = np.frombuffer(data, dtype=np.uint8, count=place.n_bytes, offset=first)
        tensors[name] = _float32(raw, place.number_format)
    return GgufFile(values, tensors)


def _place(header: GgufHeader, name: str) -> _Place:
    n_axes = header.take("I")
    if not 1 <= n_axes <= _MAX_AXES:
        raise ValueError(f"its tensor {name!r} has {n_axes} axes")
    n_values, *others = (header.take("Q") for _ in range(n_axes))
    if any(length != 1 for length in others):
        raise ValueError(f"its tensor {name!r} has {n_axes} axes")
    number_format, offset = header.take("I"), header.take("Q")
    return _Place(offset, n_values, _n_bytes(name, n_values, number_format), number_format)


def _n_bytes(name: str, n_values: int, number_format: int) -> int:
    if number_format == _F32:
        return 4 * n_values
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

    try:
        kind = GGMLQuantizationType(number_format)
        block, size = GGML_QUANT_SIZES[kind]
        quants.dequantize(np.zeros((1, size), np.uint8), kind)
    except (ValueError, KeyError, NotImplementedError) as error:
        names = {kind.value: kind.name for kind in GGMLQuantizationType}
        kind_name = names.get(number_format, number_format)
        raise ValueError(f"its tensor {name!r} is of type {kind_name}, and not F32, F16 or BF16") from error
    if n_values % block:
        raise ValueError(f"its tensor {name!r} has {n_values} values, which is not a multiple of {block}")
    return n_values // block * size


def _float32(raw: NDArray[np.uint8], number_format: int) -> NDArray[np.float32]:
    """Values in a number format of ggml as float32, in their order."""
    if number_format == _F32:
        return raw.view("<f4").astype(np.float32)
    from gguf import GGMLQuantizationType, quants

    values: NDArray[np.float32] = quants.dequantize(raw, GGMLQuantizationType(number_format))
    return values.astype(np.float32, copy=False)
