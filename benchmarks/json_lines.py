"""Files with one JSON value on each line, such as those in benchmarks/results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from atv_eval.bench import processor_name

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


def text_lines(path: Path) -> list[str]:
    """The lines that are not empty. A string of JSON may hold characters at which `str.splitlines` would break it."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def json_lines(path: Path) -> list[Record]:
    """The values of all lines, none if the file is not there."""
    return [json.loads(line) for line in text_lines(path)] if path.exists() else []


def has_line(path: Path, place: Record) -> bool:
    """Whether a line has all these values."""
    return any(place.items() <= line.items() for line in json_lines(path))


def append_lines(path: Path, records: Iterable[Record]) -> None:
    """Add measurements to a file, each with `measured`: when, on what code and on which machine."""
    lines = [json.dumps(record | {"measured": measured()}, ensure_ascii=False) + "\n" for record in records]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(lines)


@cache
def measured() -> Record:
    """The day, the commit (with `+` if files differ from it; `unknown` if git cannot say), and the machine."""

    def git(*words: str) -> str:
        try:
            found = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
        except OSError:  # after hours of measuring, a missing program is no reason to lose the figures
            return ""
        return found.stdout.strip()

    commit = git("rev-parse", "--short=8", "HEAD") or "unknown"
    if git("status", "--porcelain", "--untracked-files=no"):
        commit += "+"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    graphics = f", {torch.cuda.get_device_name()}" if torch is not None and torch.cuda.is_available() else ""
    machine = f"{processor_name()}, {cores} cores{graphics}"
    return {"on": date.today().isoformat(), "commit": commit, "machine": machine}
