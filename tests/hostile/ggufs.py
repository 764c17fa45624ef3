"""Hostile GGUFs: the tiny target with one value of its header replaced."""

from __future__ import annotations

import math
import struct
from pathlib import Path

HEADERS: dict[str, tuple[str, str, float]] = {
    "no blocks": ("llama.block_count", "I", 0),
    "blocks without end": ("llama.block_count", "I", 2**32 - 1),
    "no context": ("llama.context_length", "I", 0),
    "context without end": ("llama.context_length", "I", 2**31),
    "no heads": ("llama.attention.head_count", "I", 0),
    "heads without end": ("llama.attention.head_count", "I", 2**31),
    "heads that do not divide": ("llama.attention.head_count", "I", 7),
    "no heads of keys": ("llama.attention.head_count_kv", "I", 0),
    "width without end": ("llama.embedding_length", "I", 2**31),
    "width of nothing": ("llama.embedding_length", "I", 0),
    "rope of nothing": ("llama.rope.dimension_count", "I", 0),
    "rope without end": ("llama.rope.dimension_count", "I", 2**31),
    "epsilon of NaN": ("llama.attention.layer_norm_rms_epsilon", "f", math.nan),
    "epsilon below zero": ("llama.attention.layer_norm_rms_epsilon", "f", -1.0),
    "token past the vocabulary": ("tokenizer.ggml.eos_token_id", "I", 2**31),
}
"""Key, format and the value it gets."""


def with_header(good: Path, path: Path, name: str) -> Path:
    """A copy of `good` with one of HEADERS."""
    key, form, value = HEADERS[name]
    data = bytearray(good.read_bytes())
    at = data.index(key.encode()) + len(key)
    kind = struct.unpack_from("<I", data, at)[0]
    assert kind in (4, 6), key
    struct.pack_into(f"<{form}", data, at + 4, int(value) if form == "I" else value)
    path.write_bytes(data)
    return path


def with_array_length(good: Path, path: Path, length: int) -> Path:
    """The list of tokens said to be `length` long."""
    data = bytearray(good.read_bytes())
    at = data.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens")
    struct.pack_into("<Q", data, at + 8, length)
    path.write_bytes(data)
    return path
