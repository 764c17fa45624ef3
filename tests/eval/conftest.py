"""The tiny target with its generator, a task, and rows of it to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from atv_local.answer.engine import Engine
from atv_local.generator.generator import Generator
from atv_local.target.target import Target
from tests.eval.tasks import write_asked, write_shown


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path, tiny_generator: Generator) -> Engine:
    return Engine(Target(tiny_gguf, n_threads=1), tiny_generator)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return write_asked(tmp_path)


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    return write_shown(tmp_path)
