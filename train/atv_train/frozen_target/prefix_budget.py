"""How much memory and disk cached prefixes may take."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from atv_local.errors import UsageError

_FREE_DISK = 4 << 30
"""Bytes of disk that stay free."""


@dataclass(frozen=True)
class PrefixBudget:
    """Bytes for one process: `needed` for all its prefixes, and what of it goes to memory and to disk, or whether an
    earlier run has saved them."""

    needed: int
    memory: int
    disk: int
    saved: bool = False

    @property
    def cached(self) -> int:
        """Bytes that are cached; the rest is computed again at every step."""
        return self.memory + self.disk


def plan_prefixes(
    needed: int, device: torch.device, folder: Path, limit: int | None = None, wanted: int | None = None
) -> PrefixBudget:
    """Half of the free memory or `limit`, the rest in `folder` if its disk has room.

    Processes on one machine share both.

    Args:
        wanted: bytes that a run cached before: a resumed run caches as many, if they are needed.

    Raises:
        UsageError: a limit below zero, or too little room to resume.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"a cache of {limit} bytes is below 0")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available // processes
    memory = min(needed, free // 2 if limit is None else limit)
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    disk = min(needed - memory, max(0, shutil.disk_usage(existing).free - _FREE_DISK) // processes)
    if wanted is None:
        return PrefixBudget(needed, memory, disk)
    wanted = min(wanted, needed)  # earlier versions stored alike beginnings more than once
    if memory + disk < wanted:
        raise UsageError(f"resuming needs {wanted >> 20} MB of memory or disk for prefixes; free some")
    return PrefixBudget(needed, min(memory, wanted), max(0, wanted - memory))
