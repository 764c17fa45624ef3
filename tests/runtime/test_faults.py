"""Commands that are killed, have no space or run twice at once lose nothing; `python -m benchmarks.faults` for all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.mark.parametrize("fault", ["kill", "fill", "pair"])
def test_nothing_is_lost(fault: str) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", fault, "--verbs", "batch", "vector", "--count", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(record["verb"], record["failures"]) for record in records] == [("batch", []), ("vector", [])]
    assert all(2 in record.values() for record in records)
