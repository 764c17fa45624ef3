"""A row as it stands in a file, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """One row as it stands in a file, or the `error` that says why it cannot be read."""

    line: int
    """Where it begins, from 1; with an error, the line to look at."""
    end: int
    """Bytes of the file, unpacked, up to its end."""
    fields: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    cells: bool = False
    """Whether all values are text, because the format has nothing else."""
