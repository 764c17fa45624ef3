"""A cache of prefixes, in memory up to a budget, then in a file; what prefixes begin with alike is stored once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from atv_train.frozen_target.prefixes import Prefix
from atv_train.frozen_target.saved_prefixes import SavedPrefixes


class PrefixCache:
    """Keys and values of prompts' prefixes, each stored once and never changed.

    Args:
        memory_bytes: bytes that may stay on the device they were computed on.
        disk_bytes: further bytes that may go to a file, which has no name and vanishes with the process. Which
            prefixes are cached depends on the sum of both only.
        folder: where that file is made; by default where temporary files go.
        heads: what prefixes share with others; what is added for one begins after it. By default that of those which
            are cached first.
        saved: prefixes of an earlier run, or where those of this one are saved.
    """

    def __init__(
        self,
        memory_bytes: int,
        disk_bytes: int = 0,
        folder: Path | None = None,
        heads: Mapping[Prefix, Prefix] | None = None,
        saved: SavedPrefixes | None = None,
    ) -> None:
        self.heads, self._saved = heads, saved
        self._states: dict[Prefix, Tensor] = {}
        """Of each head."""
        self._left, self._memory_left = memory_bytes + disk_bytes, memory_bytes
        self._memory: dict[tuple[int, ...], Tensor] = {}
        self._disk: dict[tuple[int, ...], tuple[int, torch.Size, torch.dtype, torch.device]] = {}
        self._file = tempfile.TemporaryFile(dir=folder) if disk_bytes > 0 else None  # noqa: SIM115  # lives as long as we

    def __contains__(self, prefix: Prefix) -> bool:
        return prefix in self._memory or prefix in self._disk or self._is_saved(prefix)

    def __len__(self) -> int:
        return len(self._memory) + len(self._disk)

    def _is_saved(self, prefix: Prefix) -> bool:
        head = self.head(prefix)
        return self._saved is not None and prefix in self._saved and (not head or head in self._states)

    def head(self, prefix: Prefix) -> Prefix:
        """What a prefix shares with others."""
        return (self.heads or {}).get(prefix, ())

    def add_head(self, head: Prefix, states: Tensor) -> bool:
        """Store the states of tokens that prefixes begin with, if there is room; whether there was."""
        if self._saved is not None:
            self._saved.add_head(head, states)
        size = states.numel() * states.element_size()
        if size > self._left:
            return False
        self._left, self._memory_left = self._left - size, max(0, self._memory_left - size)
        self._states[head] = states
        return True

    def saved_head(self, head: Prefix) -> Tensor | None:
        """The states of tokens that prefixes begin with, of an earlier run and on the CPU."""
        return None if self._saved is None else self._saved.head(head)

    def head_states(self, head: Prefix) -> Tensor | None:
        """The states of tokens that prefixes begin with, if they are stored."""
        return self._states.get(head)

    def add(self, prefix: Prefix, part: Tensor) -> bool:
        """Cache what follows its head, if there is room; whether there was."""
        if self._saved is not None:
            self._saved.add(prefix, part)
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

    def finish(self) -> None:
        """Everything is added: let later runs find it."""
        if self._saved is not None:
            self._saved.finish()

    def get(self, prefix: Prefix) -> Tensor | None:
        """A cached prefix with its head, on the device it came from; None if there is none."""
        head, part = self._states.get(self.head(prefix)), self._rest(prefix)
        if part is None or head is None:
            return part
        return torch.cat([head, part.to(head.device)], dim=3)

    def _rest(self, prefix: Prefix) -> Tensor | None:
        if prefix in self._memory:
            return self._memory[prefix]
        if self._saved is not None and self._is_saved(prefix):
            return self._saved.get(prefix)
        if prefix not in self._disk or self._file is None:
            return None
        offset, shape, dtype, device = self._disk[prefix]
        self._file.seek(offset)
        data = bytearray(self._file.read(shape.numel() * dtype.itemsize))
        return torch.frombuffer(data, dtype=dtype).reshape(shape).to(device)
