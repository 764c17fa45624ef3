"""llm's command line with the plugin, and a folder of its own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from llm import plugins

from atv_plugins import llm_model
from tests.plugins.llm.helpers import Ask


@pytest.fixture(scope="session")
def cli() -> Iterator[click.Command]:
    """llm's command line as it is when no other plugin is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "LLM_LOAD_PLUGINS", "")
        from llm.cli import cli as command  # which loads plugins

        registered = not plugins.pm.is_registered(llm_model)
        if registered:
            plugins.pm.register(llm_model)
        yield command
        if registered:
            plugins.pm.unregister(llm_model)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """No engine outlives its test."""
    yield
    llm_model._loaded.cache_clear()


@pytest.fixture(scope="session")
def database(cli: click.Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llm's empty log; making its tables takes longer than any answer here."""
    folder = tmp_path_factory.mktemp("llm")
    result = CliRunner().invoke(cli, ["fragments", "list"], env={"LLM_USER_PATH": str(folder)})
    assert result.exit_code == 0, result.output
    return folder / "logs.db"


@pytest.fixture
def ask(cli: click.Command, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """It with a folder of its own."""
    shutil.copy(database, tmp_path)
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.delenv("LLM_RAISE_ERRORS", raising=False)
    return lambda *words, stdin="": CliRunner().invoke(cli, list(words), input=stdin)


@pytest.fixture
def pair(tiny_gguf: Path, tiny_bundle: Path) -> list[str]:
    return ["-m", "atv", "-o", "model", str(tiny_gguf), "-o", "bundle", str(tiny_bundle)]


@pytest.fixture
def options(tiny_gguf: Path, tiny_bundle: Path) -> dict[str, Any]:
    return {"model": str(tiny_gguf), "bundle": str(tiny_bundle)}
