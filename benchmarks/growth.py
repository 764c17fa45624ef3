"""What steering costs as the target grows: `atv-local bench` on random GGUFs, each in a process of its own.

    python -m benchmarks.growth 0.1B 0.5B 1B [--type Q4_0] [--folder FOLDER] [-- --quick --only first-token,decode]

Sizes as in `benchmarks.random_gguf`, by default all of its table. What stands after `--` goes to `atv-local bench`.
Each record is appended to benchmarks/results/growth.jsonl as it comes; the models are removed unless a folder for them
is named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.json_lines import append_lines
from benchmarks.random_gguf import SIZES, TYPES, parse, write

RESULTS = Path(__file__).parent / "results" / "growth.jsonl"


def measure(size: str, kind: str, folder: Path, options: list[str]) -> dict[str, Any]:
    """The record of one size; its model is written to the folder unless it is there."""
    model = folder / f"random-{size}-{kind}.gguf"
    if not model.exists():
        write(model, parse(size), kind=kind)
    command = [sys.executable, "-m", "atv_cli", "bench", "-m", str(model), "--json", *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    record: dict[str, Any] = json.loads(result.stdout)
    return {"size": size, **record}


def main() -> None:
    """Measure and append."""
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--type", choices=TYPES, default="Q4_0")
    parser.add_argument("--folder", type=Path, help="keep the models here")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args(given[:split])
    for size in arguments.sizes:
        try:
            parse(size)
        except ValueError as error:
            parser.error(str(error))
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            record = measure(size, arguments.type, arguments.folder or Path(temporary), given[split + 1 :])
        append_lines(arguments.output, [record])
        for row in record["ratios"]:
            print(f"{size:6} {row['part']:12} {row['what']:50} {row['size'] or '':>5} {row['median']:8.3f}", flush=True)


if __name__ == "__main__":
    main()
