"""Files with one JSON value on each line, such as those in benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


def text_lines(path: Path) -> list[str]:
    """The lines that are not empty. A string of JSON may hold characters at which `str.splitlines` would break it."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def json_lines(path: Path) -> list[Record]:
    """The values of all lines, none if the file is not there."""
    return [json.loads(line) for line in text_lines(path)] if path.exists() else []
