"""Values that would be taken for another one, or go on forever, are refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atv_cli import app


def cli(*words: object, **variables: str) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env=variables)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "-m", "", "hi"], "--model"),
        (["run", "-g", "", "hi"], "--bundle"),
        (["run", "-ngl", 1 << 32, "hi"], "4294967296"),
        (["run", "-ngl", -2, "hi"], "-2"),
        (["inspect", "demo", "-m", ""], "--model"),
    ],
)
def test_a_value_that_would_pass_for_another(tiny_gguf: Path, words: list[object], named: str) -> None:
    result = cli(*words, ATV_MODEL=str(tiny_gguf))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert named in result.stderr


def test_an_empty_key_is_not_the_same_as_none(tiny_gguf: Path) -> None:
    result = cli("serve", "-m", tiny_gguf, "--off", ATV_API_KEY="")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "ATV_API_KEY" in result.stderr


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
@pytest.mark.parametrize("words", [["batch", "/dev/zero", "out.jsonl"], ["eval", "/dev/zero"]])
def test_a_file_without_an_end(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*words, "-m", tiny_gguf, *(["--off"] if words[0] == "batch" else []))
    assert result.exit_code == 1
    assert "/dev/zero:1: no line break" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_ctrl_c_while_the_program_is_imported() -> None:
    code = "import os, signal, sys\nfrom atv_cli.__main__ import main\n"
    code += "class Late:\n def find_spec(self, *_): os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.meta_path.insert(0, Late()); main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert (result.returncode, result.stderr) == (130, "")
