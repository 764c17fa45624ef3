"""The lines of benchmarks/results, and how a figure of them is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


def records(name: str) -> list[Record]:
    """All lines of a results file, none if it is not there."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def percent(value: float) -> str:
    """One decimal."""
    return f"{100 * value:.1f}"
