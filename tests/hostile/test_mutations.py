"""A few mutated files of each kind; `python -m benchmarks.mutations` runs many."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import ROOT


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory of a process cannot be measured")
def test_mutated_files_are_refused_or_answered() -> None:
    count = ["--ggufs", "6", "--templates", "4", "--bundles", "4", "--patience", "6"]
    command = [sys.executable, "-m", "benchmarks.mutations", *count]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert sum(record["ggufs"].values()) == 6
    assert set(record["ggufs"]) | set(record["templates"]) | set(record["bundles"]) == {"answered", "refused"}
