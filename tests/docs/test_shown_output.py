"""Console blocks: every command prints what is shown below it, apart from times."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atv_cli import app
from tests import ROOT

PAGES = ["README.md", "docs/index.md", "docs/how-to/run.md", "docs/how-to/control-vectors.md"]


@pytest.mark.parametrize("page", PAGES)
def test_commands_print_what_is_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows `>>> ` is typed. Commands of other programs are left to other tests."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    shown = [pair for block in blocks for pair in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
    ours = [(shlex.split(command)[1:], output) for command, output in shown if command.startswith("atv-local ")]
    assert ours
    for words, output in ours:
        typed = "".join(re.findall(r"^>>> (.*\n)", output, re.MULTILINE))
        printed = re.sub(r"^>>> .*\n", "", output, flags=re.MULTILINE)
        result = CliRunner().invoke(app, words, input=typed)
        assert result.exit_code == 0, result.output
        assert result.output.strip() == printed.strip(), words
