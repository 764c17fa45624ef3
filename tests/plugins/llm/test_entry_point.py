"""How llm finds the plugin, and what it costs to load."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from atv_plugins import llm_model
from tests import ROOT

ENTRY_POINTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["llm"]


def test_the_entry_point_is_the_plugin() -> None:
    (name, value), *others = ENTRY_POINTS.items()
    assert not others
    assert EntryPoint(name, value, "llm").load() is llm_model


def test_llm_starts_without_what_is_heavy() -> None:
    code = """if True:
        import sys, llm, llm.parts, pydantic, concurrent.futures, queue
        before = set(sys.modules)
        import atv_plugins.llm_model
        print(*{name.split(".")[0] for name in set(sys.modules) - before})
    """
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert set(result.stdout.split()) == {"atv_plugins", "atv_local", "lazy_loader"}


@pytest.mark.model
def test_the_readmes_session_with_what_is_installed(tmp_path: Path) -> None:
    """llm itself, the plugin found by its entry point, the embedded model and the demo bundle."""
    installed = tmp_path / "site" / "atv_local-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: atv-local\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}\n" for name, value in ENTRY_POINTS.items()]
    (installed / "entry_points.txt").write_text("[llm]\n" + "".join(lines))
    environment = _environment(tmp_path / "site") | {
        "LLM_USER_PATH": str(tmp_path / "user"),
        "LLM_LOAD_PLUGINS": "atv-local",
    }
    sessions = re.findall(r"```console\n(\$ llm .*?)```", (ROOT / "docs/how-to/llm.md").read_text(), re.DOTALL)
    commands = re.findall(r"^\$ llm (.*)\n(.*\n)", "".join(sessions), re.MULTILINE)
    assert commands[0][1] == "cash withdrawal charge\n"
    for words, answer in commands:
        result = subprocess.run(
            [sys.executable, "-m", "llm", *shlex.split(words)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, answer, "")


def _environment(*before: Path) -> dict[str, str]:
    """This process's, in which Python finds the same packages."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, before), *filter(None, sys.path)])}
