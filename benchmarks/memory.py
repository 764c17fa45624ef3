"""Highest resident memory of one answer, in a process of its own: `atv-local run` against bare llama-cpp-python.

python -m benchmarks.memory
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys

QUERY = "I was charged a fee for getting cash from a machine abroad, why is that?"
STATUS = "\nimport sys; print(open('/proc/self/status').read(), file=sys.stderr)"
BARE = f"""
import llama_cpp
from atv_local.names import embedded_model  # only the path; it imports nothing
model = llama_cpp.Llama(str(embedded_model()), n_ctx=2048, verbose=False)
model.create_chat_completion([{{"role": "user", "content": {QUERY!r}}}], temperature=0, max_tokens=16)
"""
STEERED = f"""
import sys
from atv_cli.main import app
sys.argv = ["atv-local", "run", "-n", "16", {QUERY!r}]
try: app()
except SystemExit as end: assert not end.code
"""


def megabytes(code: str) -> float:
    """The kernel's `VmHWM` of a process that runs `code` (Linux)."""
    command = [sys.executable, "-c", code + STATUS]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", result.stderr)
    return int(kilobytes) / 1024


def main() -> None:
    """Three processes of each, in turn; medians."""
    rounds = [(megabytes(BARE), megabytes(STEERED)) for _ in range(3)]
    bare, steered = (statistics.median(side) for side in zip(*rounds, strict=True))
    print(f"bare {bare:.1f} MB, atv-local run {steered:.1f} MB, difference {steered - bare:.1f} MB")


if __name__ == "__main__":
    main()
