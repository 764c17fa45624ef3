"""Resident memory of one answer: `atv-local run` against a bare llama-cpp-python process, each in its own process.

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
from atv_local.store import default_model  # only the path; it imports nothing
model = llama_cpp.Llama(str(default_model()), n_ctx=2048, verbose=False)
model.create_chat_completion([{{"role": "user", "content": {QUERY!r}}}], temperature=0, max_tokens=16)
"""
STEERED = f"""
import sys
from atv_cli.main import app
sys.argv = ["atv-local", "run", "-n", "16", {QUERY!r}]
try: app()
except SystemExit as end: assert not end.code
"""


def megabytes(code: str) -> dict[str, float]:
    """Resident memory at the end (`VmRSS`) and at its highest (`VmHWM`), from the kernel (Linux)."""
    command = [sys.executable, "-c", code + STATUS]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    return {name: int(size) / 1024 for name, size in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", result.stderr)}


def main() -> None:
    """Three processes of each, in turn; medians."""
    rounds = [(megabytes(BARE), megabytes(STEERED)) for _ in range(3)]
    for name, what in (("VmRSS", "at the end"), ("VmHWM", "at the highest")):
        bare, steered = (statistics.median(pair[side][name] for pair in rounds) for side in (0, 1))
        print(f"{what:15} bare {bare:6.1f} MB   atv-local run {steered:6.1f} MB   difference {steered - bare:6.1f} MB")


if __name__ == "__main__":
    main()
