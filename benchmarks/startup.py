"""What one answer takes from start to end, of `atv-local run` and of llama-cpp-python alone: time and memory.

python -m benchmarks.startup [--rounds N] [--output FILE.jsonl]

Every answer, of one token, has a process of its own; the three ways take turns (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.json_lines import append_lines

QUERY = "I was charged a fee for getting cash from a machine abroad, why is that?"
STATUS = "\nimport sys; print(open('/proc/self/status').read(), file=sys.stderr)"
BARE = f"""
import llama_cpp
from atv_local.names import embedded_model  # only the path; it imports nothing
model = llama_cpp.Llama(str(embedded_model()), n_ctx=2048, verbose=False)
model.create_chat_completion([{{"role": "user", "content": {QUERY!r}}}], temperature=0, max_tokens=1)
"""
COMMAND = f"""
import sys
from atv_cli.main import app
sys.argv = ["atv-local", "run", "-n", "1", {QUERY!r}, *{{}}]
try: app()
except SystemExit as end: assert not end.code
"""
WAYS = {"bare": BARE, "off": COMMAND.format(["--off"]), "steered": COMMAND.format([])}
"""Python programs by name."""


def one_answer(code: str) -> tuple[float, float]:
    """Seconds, and the kernel's `VmHWM` in MB, of a process that runs `code`."""
    started = time.perf_counter()
    command = [sys.executable, "-c", code + STATUS]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - started
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", result.stderr)
    return seconds, int(kilobytes) / 1024


def main() -> None:
    """Measure; the first round, which fills caches, does not count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    rounds = [{name: one_answer(code) for name, code in WAYS.items()} for _ in range(arguments.rounds + 1)][1:]
    record: dict[str, object] = {"rounds": len(rounds), "cores": len(os.sched_getaffinity(0))}
    for index, what in enumerate(("seconds", "megabytes")):
        record[what] = {name: round(statistics.median(way[name][index] for way in rounds), 3) for name in WAYS}
    print(json.dumps(record, indent=1))
    if arguments.output:
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
