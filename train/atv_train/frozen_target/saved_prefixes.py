"""Prefixes of a run in files, for a later run over the same rows and target, or for its resumption.

All of one run are in a folder that is named after what they were computed from, and appears when they are complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from atv_train.frozen_target.prefixes import Prefix

MOST_BYTES = 8 << 30
"""Of all folders together."""
_LEAST_FREE = 4 << 30
"""Bytes of disk that stay free."""
_SHARD = 256 << 20
_FORMAT = 2
"""Changes with the way in which prefixes are computed or stored."""


def default_folder() -> Path | None:
    """Where prefixes are saved: in the user's cache folder, if there is one."""
    try:
        return platformdirs.user_cache_path("atv-local", appauthor=False) / "prefixes"
    except RuntimeError:  # a user without a home
        return None


class SavedPrefixes:
    """The saved prefixes of one set of rows, or those that are being saved.

    Args:
        parent: folder of all such folders.
        target: what identifies the target and how it computes.
        heads: what each prefix that is saved begins with and others do too; these are saved as well.
        n_bytes: what they take.
        writable: save them if they are not there; of several processes one does.
    """

    def __init__(
        self, parent: Path, target: str, heads: Mapping[Prefix, Prefix], n_bytes: int, *, writable: bool = True
    ) -> None:
        self._names = {prefix: str(index) for index, prefix in enumerate(sorted(heads))}
        self._heads = {head: f"head {index}" for index, head in enumerate(sorted({*heads.values()} - {()}))}
        self._all = {*self._names.values(), *self._heads.values()}
        versions = f"{_FORMAT} {version('torch')} {version('transformers')}"
        key = hashlib.sha256(f"{target}\n{versions}\n{self._names}".encode())
        self._folder = parent / key.hexdigest()[:32]
        self._shards: dict[str | None, Any] = {}
        self._waiting: dict[str, Tensor] = {}
        self._waiting_bytes = 0
        self.complete = self._open()
        """Whether all are there, saved by an earlier run."""
        self._partial: Path | None = None
        if not self.complete and writable and _make_room(parent, self._folder, n_bytes):
            self._partial = parent / f"{self._folder.name}.partial-{os.getpid()}"

    def __contains__(self, prefix: Prefix) -> bool:
        return self._names.get(prefix) in self._shards

    def get(self, prefix: Prefix) -> Tensor | None:
        """What follows the head of a saved prefix, on the CPU."""
        return self._tensor(self._names.get(prefix))

    def head(self, head: Prefix) -> Tensor | None:
        """A saved head, on the CPU."""
        return self._tensor(self._heads.get(head))

    def add(self, prefix: Prefix, part: Tensor) -> None:
        """Save what follows the head of one more prefix; nothing happens where they are not saved."""
        self._add(self._names.get(prefix), part)

    def add_head(self, head: Prefix, states: Tensor) -> None:
        """Save one more head, in the same way."""
        self._add(self._heads.get(head), states)

    def _tensor(self, name: str | None) -> Tensor | None:
        shard = self._shards.get(name)
        return None if shard is None else shard.get_tensor(name)

    def _add(self, name: str | None, part: Tensor) -> None:
        if self._partial is None or name is None:
            return
        self._waiting[name] = part.cpu()
        self._waiting_bytes += part.numel() * part.element_size()
        if self._waiting_bytes >= _SHARD:
            self._write()

    def finish(self) -> None:
        """Let later runs find them, if all were added; else remove them."""
        partial, self._partial = self._partial, None
        if partial is None:
            return
        try:
            self._partial = partial
            self._write()
            names = {name for file in partial.glob("*.safetensors") for name in _names_in(file)}
            if names == self._all:
                partial.rename(self._folder)
        except OSError:
            pass  # a full disk, or another run was faster
        finally:
            self._partial = None
            shutil.rmtree(partial, ignore_errors=True)

    def _write(self) -> None:
        if self._partial is None or not self._waiting:
            return
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            save_file(self._waiting, self._partial / f"{len(list(self._partial.iterdir())):05}.safetensors")
        except (OSError, SafetensorError):  # training goes on without
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial = None
        self._waiting, self._waiting_bytes = {}, 0

    def _open(self) -> bool:
        try:
            for file in sorted(self._folder.glob("*.safetensors")):
                shard = safe_open(file, framework="pt")
                self._shards |= dict.fromkeys(shard.keys(), shard)
            if self._shards.keys() == self._all:
                os.utime(self._folder)
                return True
        except (OSError, SafetensorError):
            pass
        self._shards = {}
        return False


def _names_in(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as shard:
        return list(shard.keys())


def _make_room(parent: Path, folder: Path, n_bytes: int) -> bool:
    """Whether there is room for so many bytes, after the folders that were not used for longest are removed."""
    if n_bytes > MOST_BYTES:
        return False
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        others = sorted(parent.iterdir(), key=lambda other: other.stat().st_mtime)
        sizes = {other: sum(file.stat().st_size for file in other.rglob("*")) for other in others}
        while others and sum(sizes[other] for other in others) + n_bytes > MOST_BYTES:
            shutil.rmtree(others.pop(0), ignore_errors=True)
        return shutil.disk_usage(parent).free - n_bytes > _LEAST_FREE
    except OSError:
        return False


def target_identity(path_identity: str, weights: str | None, dtype: torch.dtype, device: torch.device) -> str:
    """What the prefixes of a target depend on besides the tokens."""
    return f"{path_identity} {weights} {dtype} {device.type}"
