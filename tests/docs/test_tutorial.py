"""The tutorial's commands, in order, on its own data; only the target and the backbone are tiny ones."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atv_cli import app
from tests import ROOT

MODEL = ["run", "train", "eval"]
"""Verbs that take the target."""


def test_the_tutorials_commands_run(
    tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("tickets.csv", "tickets-test.csv"):
        shutil.copy(ROOT / "examples" / file, tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [line.removeprefix("$ ") for line in "".join(blocks).splitlines() if line.startswith("$ ")]
    verbs = []
    for command in commands:
        _, verb, *words = shlex.split(command)
        extra = ["-m", str(tiny_gguf)] if verb in MODEL else []
        extra += ["--backbone", str(tiny_backbone), "--epochs", "1"] if verb == "train" else []
        result = CliRunner().invoke(app, [verb, *words, *extra])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        verbs.append(verb)
    assert {"train", "export", "eval", "run"} == set(verbs)
