"""The README: its commands run, and print what it shows."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from atv_cli import app
from tests import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "cash withdrawal charge" in result.stdout


def test_the_readmes_measuring_commands_run(
    tiny_gguf: Path, tiny_bundle: Path, tiny_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").symlink_to(tiny_gguf)
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    lines = tiny_rows.read_text().splitlines(keepends=True)
    for number, name in enumerate(["test", "train", "valid", "questions"]):
        rows = (json.dumps(json.loads(line) | {"task": "kinds"}) + "\n" for line in lines[number::4])
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    (commands,) = [block.splitlines() for block in blocks("sh") if "atv-local eval" in block]
    verbs = []
    for command in commands:
        words = shlex.split(command)[1:]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        verbs.append(words[0])
    assert verbs == ["eval", "calibrate", "batch", "bench"]
    assert (tmp_path / "results" / "results.json").exists()
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == len(lines[3::4])


def test_the_readmes_training_commands_run(
    tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written, but for a tiny model, its backbone, one epoch and a sixth of the rows."""
    (lines,) = [block.splitlines() for block in blocks("sh") if "atv-local train" in block]
    header, *rows = (ROOT / "examples" / "tickets.csv").read_text().splitlines(keepends=True)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "tickets.csv").write_text("".join([header, *rows[::6]]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATV_MODEL", str(tiny_gguf))
    verbs = []
    for line in lines:
        if line.startswith("atv-local"):
            words = shlex.split(line)[1:]
            extra = ["--backbone", str(tiny_backbone), "--epochs", "1"] if words[0] == "train" else []
            result = CliRunner().invoke(app, [*words, *extra])
            assert result.exit_code == 0, result.output
            verbs.append(words[0])
    assert verbs == ["train", "export", "run"]


def test_the_readmes_server_answers() -> None:
    (lines,) = [block.splitlines() for block in blocks("sh") if "atv-local serve" in block]
    serve = shlex.split(lines[1], comments=True)
    command = [sys.executable, "-m", "atv_cli", *serve[1:], "--port", "0"]
    ((asked, *printed),) = [block.splitlines() for block in blocks("console") if "curl" in block]
    _, _, _, address, _, header, _, body, _, _, _, wanted = shlex.split(asked)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split()[0]
        assert address.startswith("http://127.0.0.1:8080/")
        address = address.replace("http://127.0.0.1:8080", url)
        answer = httpx.post(address, content=body, headers=[header.split(": ")], timeout=60)
        server.terminate()
    assert [found[0] for found in re.finditer(wanted, answer.text)] == printed
