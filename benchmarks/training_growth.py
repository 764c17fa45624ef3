"""What training takes as the target grows: `atv-local train` on random GGUFs, each in a process of its own.

python -m benchmarks.training_growth 0.1B 0.5B 1B 3B [--rows 32] [--folder FOLDER] [--output FILE.jsonl]

A record has the highest resident memory of the process, the time until training began and that of a step. The answers
are those of a random model, so nothing is learned. Sizes as in `benchmarks.random_gguf`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from atv_local.data import read_rows
from benchmarks.json_lines import append_lines
from benchmarks.random_gguf import SIZES, parse, write

RESULTS = Path(__file__).parent / "results" / "training_growth.jsonl"
ROWS = Path(__file__).parent.parent / "data" / "demo" / "train" / "banking77_top10.jsonl"
BATCH = 8


def measure(size: str, n_rows: int, folder: Path, work: Path) -> dict[str, Any]:
    """Train one epoch on a model of this size, which is written to the folder unless it is there."""
    model, rows, run = folder / f"random-{size}-Q4_0.gguf", work / "rows.jsonl", work / "run"
    if not model.exists():
        write(model, parse(size))
    texts = [json.dumps({"input": row.input, "output": row.output}) for row in read_rows(ROWS).rows[:n_rows]]
    rows.write_text("\n".join(texts) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "atv_cli", "train", str(rows), "-m", str(model), "-o", str(run)]
    command += ["--epochs", "1", "--batch-size", str(BATCH), "--no-keep-prefixes", "--contrastive", "0"]
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"training on {model.name} ended with status {status}")
    (metrics,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = -(-n_rows * 9 // 10 // BATCH)  # a tenth is held out
    return {
        "size": size,
        "rows": n_rows,
        "model_bytes": model.stat().st_size,
        "peak_bytes": used.ru_maxrss << 10,
        "seconds": round(seconds, 1),
        "step_seconds": round(metrics["seconds"] / steps, 3),
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    """Measure and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="keep the models here")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            work = Path(temporary)
            record = measure(size, arguments.rows, arguments.folder or work, work)
        print(json.dumps(record), flush=True)
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
