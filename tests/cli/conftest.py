"""The tiny target on the command line, and rows of its task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eval.tasks import write_asked, write_shown


@pytest.fixture
def pair(tiny_gguf: Path, tiny_bundle: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-g", str(tiny_bundle), "-t", "1"]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return write_asked(tmp_path)


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    return write_shown(tmp_path)
