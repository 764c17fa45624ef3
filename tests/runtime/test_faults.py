"""A command that is killed leaves its old output or its new one. `python -m benchmarks.faults` kills at every call."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.faults import kill_everywhere


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_killed_command_loses_nothing(tiny_bundle: Path) -> None:
    assert kill_everywhere(str(tiny_bundle), 2) == {"kills": 2, "lost": 0, "torn": 0, "rerun_differs": 0}
