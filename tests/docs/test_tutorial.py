"""The commands of the tutorials, in order, on their own data; only the target and the backbone are tiny ones."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atv_cli import app
from tests import ROOT

MODEL = ["run", "train", "eval"]
"""Verbs that take the target."""


TUTORIALS = {
    "tutorial.md": ["examples/tickets.csv", "examples/tickets-test.csv"],
    "tutorial-text.md": ["data/demo/train/pirate.jsonl"],
}
VERBS = {"tutorial.md": {"train", "export", "eval", "run"}, "tutorial-text.md": {"train", "export", "run", "vector"}}


@pytest.mark.parametrize("page", TUTORIALS)
def test_the_tutorials_commands_run(
    page: str, tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in TUTORIALS[page]:
        shutil.copy(ROOT / file, tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    commands = [line.removeprefix("$ ") for line in "".join(blocks).splitlines() if line.startswith("$ ")]
    verbs = set()
    for command in commands:
        program, verb, *words = shlex.split(command)
        if program != "atv-local":
            subprocess.run(command, shell=True, check=True)
            continue
        extra = ["-m", str(tiny_gguf)] if verb in MODEL else []
        extra += ["--backbone", str(tiny_backbone), "--epochs", "1"] if verb == "train" else []
        result = CliRunner().invoke(app, [verb, *words, *extra])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        verbs.add(verb)
    assert verbs == VERBS[page]
