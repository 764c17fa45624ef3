"""Everything in examples/ runs as it is, against the embedded target, the demo bundle and a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of `atv-local serve` on a free port."""
    command = [sys.executable, "-m", "atv_cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process.stderr.readline().split()[0]
        process.terminate()


def output(*command: str, **environment: str) -> list[str]:
    """The lines that a command prints."""
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_every_example_is_tested() -> None:
    """A new file needs a test here."""
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix not in (".csv", "")}
    clients = {"openai_client.py", "openai_schema.py", "langchain_chat.py"}
    assert programs == {"python.py", *clients, "llm.sh", "steering.ipynb"}


def test_python() -> None:
    lines = output(sys.executable, str(EXAMPLES / "python.py"))
    assert "matey" in lines[0]
    assert json.loads(lines[-2])["intent"] == "BookRestaurant"
    assert lines[-1] == "cash withdrawal charge"


def test_openai_schema(server: str) -> None:
    trip, choice = output(sys.executable, str(EXAMPLES / "openai_schema.py"), ATV_URL=f"{server}/v1")
    assert trip == "city='Rome' days=4 transport='train'"
    assert choice.startswith("cash withdrawal charge {'cash withdrawal charge': 0.9")


def test_openai_client(server: str) -> None:
    lines = output(sys.executable, str(EXAMPLES / "openai_client.py"), ATV_URL=f"{server}/v1")
    steered, weaker, base = lines[0], lines[2], lines[4]
    assert "matey" in steered
    assert steered == lines[-1]
    assert "'strength': 1.0" in lines[1]
    assert "'strength': 0.5" in lines[3]
    assert weaker
    assert base != steered


def test_langchain(server: str) -> None:
    lines = output(sys.executable, str(EXAMPLES / "langchain_chat.py"), ATV_URL=f"{server}/v1")
    assert "matey" in lines[0]
    assert lines[1:] == ["cash withdrawal charge"]


@pytest.mark.skipif(shutil.which("sh") is None, reason="it is a shell script")
def test_llm(tmp_path: Path) -> None:
    """With the plugin found by the entry point that pyproject.toml names."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    installed = tmp_path / "site" / "atv_local-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: atv-local\nVersion: 0\n")
    lines = [f"{name} = {value}\n" for name, value in entry_points["llm"].items()]
    (installed / "entry_points.txt").write_text("[llm]\n" + "".join(lines))
    (tmp_path / "llm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llm "$@"\n')
    (tmp_path / "llm").chmod(0o755)
    printed = output(
        "sh",
        str(EXAMPLES / "llm.sh"),
        PATH=os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
        PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)]),
        LLM_USER_PATH=str(tmp_path / "user"),
        LLM_LOAD_PLUGINS="atv-local",
    )
    assert printed[0] == "cash withdrawal charge"
    assert printed[1] == "declined cash withdrawal"
    assert '"strength"' in printed[-1]


def test_notebook(tmp_path: Path) -> None:
    """Every cell runs; its files go to a folder of the test's."""
    notebook = nbformat.read(EXAMPLES / "steering.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert codes
    assert all(cell.execution_count for cell in codes)
