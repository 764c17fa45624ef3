"""Python blocks in the guides run as they are shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests import ROOT

GUIDES = ROOT / "docs" / "how-to"


def python_of(page: str) -> str:
    """All blocks of a page, one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (GUIDES / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    return "\n".join(blocks)


@pytest.mark.parametrize("page", ["python.md", "restrict.md", "batch.md", "control-vectors.md"])
def test_with_the_embedded_models(page: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", python_of(page)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_training_and_measuring(
    tiny_gguf: Path,
    tiny_rows: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As shown, but for a tiny target, its backbone and one epoch."""
    import atv_train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(atv_train, "train", partial(atv_train.train, backbone=str(tiny_backbone), epochs=1))
    (tmp_path / "model.gguf").symlink_to(tiny_gguf)
    rows = [json.loads(line) | {"task": "kinds"} for line in tiny_rows.read_text(encoding="utf-8").splitlines()]
    for name, part in (("tasks", rows[::3]), ("test", rows[1::3]), ("valid", rows[2::3])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    for page in ("train.md", "measure.md"):
        exec(python_of(page), {})
    assert (tmp_path / "bundle" / "atv.json").exists()
    assert (tmp_path / "calibrated" / "atv.json").exists()
    assert "steered" in capsys.readouterr().out
