"""The files of a GGUF that is split, by the names that llama.cpp wants them to have."""

from __future__ import annotations

import re
from pathlib import Path

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
_MAX_PARTS = 1000
"""Anybody can give a file any number."""


def parts_of(first: str) -> list[str]:
    """All files of the GGUF that begins with this one; one that is not split is its only part."""
    match = _PART.fullmatch(first)
    if match is None or not _is_first(match):
        return [first]
    return [f"{match[1]}-{number:05d}-of-{match[3]}{match[4]}" for number in range(1, int(match[3]) + 1)]


def begins_gguf(file: str) -> bool:
    """Whether a file is named as a GGUF, and as the first of its parts."""
    match = _PART.fullmatch(file)
    return file.lower().endswith(".gguf") and (match is None or _is_first(match))


def without_part(file: str) -> str:
    """The name that the file would have if it were not split."""
    return _PART.sub(r"\1\4", file)


def files_of(path: Path) -> list[Path]:
    """The files of the GGUF at `path`: all its parts if they are there, else itself."""
    parts = [path.with_name(name) for name in parts_of(path.name)]
    return parts if all(part.exists() for part in parts) else [path]


def _is_first(match: re.Match[str]) -> bool:
    return 1 == int(match[2]) <= int(match[3]) <= _MAX_PARTS
