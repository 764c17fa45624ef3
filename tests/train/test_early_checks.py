"""`atv-local train` and `export` refuse a mistake before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from atv_cli.__main__ import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train"], 2, "-o"),
        (["train", "-o", "out"], 2, "rows"),
        (["train", "missing.jsonl", "-o", "out"], 1, "missing.jsonl"),
        (["train", "rows.jsonl", "rows.jsonl", "-o", "out"], 2, "rows.jsonl"),
        (["train", "rows.jsonl", "--valid", "missing.jsonl", "-o", "out"], 1, "missing.jsonl"),
        (["train", "rows.jsonl", "--templates", "missing.json", "-o", "out"], 1, "missing.json"),
        (["train", "rows.jsonl", "--column", "x", "-o", "out"], 2, "x"),
        (["train", "rows.jsonl", "-o", "run"], 2, "--overwrite"),
        (["train", "rows.jsonl", "-o", "other", "--overwrite"], 2, "other"),
        (["train", "--resume", "missing"], 1, "missing"),
        (["export", "missing", "out"], 1, "missing"),
        (["export", "run", "out.zip"], 2, "out.zip"),
        (["export", "run", "other"], 2, "other"),
        (["export", "run", "out", "-f", "missing.txt"], 1, "missing.txt"),
    ],
)
def test_a_mistake_is_refused_before_torch_is_imported(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    for folder, file in (("run", "run.json"), ("other", "notes.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-c", CODE, *words]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (code, "False\n"), done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
