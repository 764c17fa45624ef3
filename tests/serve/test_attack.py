"""`benchmarks/attack.py` in small: each way to attack once or twice, and every answer as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import attack


def test_no_promise_is_broken(
    tiny_gguf: Path, tiny_bundle: Path, other_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--requests", "16", "--clients", "4", "--seconds", "0", "--idle", "50"]
    status = attack.main(["-m", str(tiny_gguf), "-g", f"one={tiny_bundle}", "-g", f"two={other_bundle}", *sizes])
    record = json.loads(capsys.readouterr().out)
    assert record["failures"] == {}
    assert status == 0
    assert sum(record["requests"].values()) == 16
    assert set(record["alone"]) == {"bystander", *(kind.__name__ for kind in attack.Attacker.KINDS)}
