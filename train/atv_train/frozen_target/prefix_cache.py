"""A cache of prefixes, in memory up to a budget, then in a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor


class PrefixCache:
    """Keys and values of prompts' prefixes, each stored once and never changed.

    Args:
        memory_bytes: bytes that may stay on the device they were computed on.
        disk_bytes: further bytes that may go to a file, which has no name and vanishes with the process. Which
            prefixes are cached depends on the sum of both only.
        folder: where that file is made; by default where temporary files go.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int = 0, folder: Path | None = None) -> None:
        self._left, self._memory_left = memory_bytes + disk_bytes, memory_bytes
        self._memory: dict[tuple[int, ...], Tensor] = {}
        self._disk: dict[tuple[int, ...], tuple[int, torch.Size, torch.dtype, torch.device]] = {}
        self._file = tempfile.TemporaryFile(dir=folder) if disk_bytes > 0 else None  # noqa: SIM115  # lives as long as we

    def __contains__(self, prefix: tuple[int, ...]) -> bool:
        return prefix in self._memory or prefix in self._disk

    def __len__(self) -> int:
        return len(self._memory) + len(self._disk)

    def add(self, prefix: tuple[int, ...], part: Tensor) -> bool:
        """Cache it if there is room; whether there was."""
        size = part.numel() * part.element_size()
        if size > self._left:
            return False
        self._left -= size
        if size <= self._memory_left:
            self._memory_left -= size
            self._memory[prefix] = part
        elif self._file is not None:
            offset = self._file.seek(0, 2)
            self._file.write(part.cpu().contiguous().view(torch.uint8).numpy().data)
            self._disk[prefix] = (offset, part.shape, part.dtype, part.device)
        else:
            return False
        return True

    def get(self, prefix: tuple[int, ...]) -> Tensor | None:
        """The cached tensor, on the device it came from; None if there is none."""
        if prefix in self._memory:
            return self._memory[prefix]
        if prefix not in self._disk or self._file is None:
            return None
        offset, shape, dtype, device = self._disk[prefix]
        self._file.seek(offset)
        data = bytearray(self._file.read(shape.numel() * dtype.itemsize))
        return torch.frombuffer(data, dtype=dtype).reshape(shape).to(device)
