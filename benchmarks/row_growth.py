"""Training as rows and tasks grow: time until the first step, time of a step, memory, and the same of `--resume`.

    python -m benchmarks.row_growth [--rows 100 10000] [--tasks 1 100] [--model NAME] [--output FILE.jsonl]

Each number of rows is one task, and each number of tasks shares `--tasks-rows` rows. By default the target is a random
GGUF of 4 narrow layers, so that what grows is seen and not the target; each run ends after a few steps. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from atv_local.data import read_rows
from atv_train import StepReport, TrainingHooks, resume, train
from benchmarks.json_lines import RESULTS, append_lines
from benchmarks.random_gguf import parse, write

ROWS = Path(__file__).parent.parent / "data" / "demo" / "train" / "banking77_top10.jsonl"
NARROW = "4x64x4x2x128"
N_STEPS = 8


def write_rows(folder: Path, n_rows: int, n_tasks: int) -> list[Path]:
    """Rows that all differ, in a file for each task."""
    rows = read_rows(ROWS).rows
    folder.mkdir()
    files = []
    for task in range(n_tasks):
        numbered = ((number, rows[number % len(rows)]) for number in range(task, n_rows, n_tasks))
        lines = [json.dumps({"input": f"{row.input} ({number})", "output": row.output}) for number, row in numbered]
        files.append(folder / f"task{task}.jsonl")
        files[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


def run_steps(started: float, run: Path, model: str, rows: Sequence[str]) -> None:
    """In a process of its own: train, or resume without rows, for a few steps; prints what they took."""
    ends: list[float] = []

    def on_step(_: StepReport) -> None:
        ends.append(time.time() - started)

    hooks = TrainingHooks(on_step=on_step, stopped=lambda: len(ends) >= N_STEPS)
    if rows:
        train([Path(row) for row in rows], run, model=model, hold_out=False, epochs=2, batch_size=8, hooks=hooks)
    else:
        resume(run, hooks)
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    steps = [after - before for before, after in pairwise(ends)]
    found = {"first_step": ends[0], "step": statistics.median(steps), "megabytes": int(kilobytes) / 1024}
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


def measured(run: Path, model: str, rows: Sequence[Path]) -> dict[str, float]:
    """What `run_steps` prints."""
    command = [sys.executable, "-m", "benchmarks.row_growth", "--child", str(time.time()), str(run), model]
    command += map(str, rows)
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return dict(json.loads(lines[-1]))


def main() -> None:
    """Measure and append."""
    if sys.argv[1:2] == ["--child"]:
        started, run, model, *rows = sys.argv[2:]
        run_steps(float(started), Path(run), model, rows)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--tasks", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--tasks-rows", type=int, default=2_000)
    parser.add_argument("--model", help="a target that is not random, such as `default`")
    parser.add_argument("--output", type=Path, default=RESULTS / "row_growth.jsonl")
    arguments = parser.parse_args()
    sizes = [(n_rows, 1) for n_rows in arguments.rows] + [(arguments.tasks_rows, n) for n in arguments.tasks]
    for n_rows, n_tasks in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if not (model := arguments.model):
                write(folder / "narrow.gguf", parse(NARROW))
                model = str(folder / "narrow.gguf")
            files = write_rows(folder / "rows", n_rows, n_tasks)
            record: dict[str, Any] = {"rows": n_rows, "tasks": n_tasks, "model": arguments.model or NARROW}
            record["cores"] = len(os.sched_getaffinity(0))
            record["train"] = measured(folder / "run", model, files)
            record["resume"] = measured(folder / "run", model, [])
        print(json.dumps(record), flush=True)
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
