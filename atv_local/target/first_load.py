"""Checks a GGUF before its first load, in a process of its own: called by `Model`, see atv_local.data.try_file."""

from __future__ import annotations

from pathlib import Path

from atv_local.data import files_of, reading, try_file
from atv_local.errors import ModelError

_TRIAL = "atv_local.target.load_trial"  # by name: it imports what imports this module


def check_loadable(path: Path) -> None:
    """Raise ModelError if loading the GGUF would end this process, hang or take all memory."""
    with reading(f"the model {path}", ModelError):
        stats = [part.stat() for part in files_of(path)]
    key = "\n".join(f"{one.st_dev} {one.st_ino} {one.st_size} {one.st_mtime_ns}" for one in stats)
    failure = try_file(_TRIAL, path, key=key, size=sum(one.st_size for one in stats))
    if failure is not None:
        sentence = f"llama.cpp cannot load {path}: {failure.reason}; download or convert it again"
        raise ModelError(failure.reason if failure.explained else sentence)
