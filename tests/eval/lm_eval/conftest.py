"""The tiny target for lm-evaluation-harness and as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atv_eval.lm_eval.harness_model import AtvLocal
from atv_local.answer.engine import Engine
from atv_local.generator.generator import Generator
from atv_local.target.target import Target

# On the tiny target, whose numbers are computed token by token here.


@pytest.fixture(scope="module")
def arguments(tiny_gguf: Path, tiny_bundle: Path) -> dict[str, Any]:
    return {"model": tiny_gguf, "bundle": tiny_bundle, "n_threads": 1}


@pytest.fixture(scope="module")
def lm(arguments: dict[str, Any]) -> AtvLocal:
    return AtvLocal(**arguments)


@pytest.fixture(scope="module")
def alone(tiny_gguf: Path, tiny_generator: Generator) -> Engine:
    return Engine(Target(tiny_gguf, n_threads=1), tiny_generator)
