"""A server of the tiny target with two bundles, its client, and engines as it should answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from atv_local.answer.engine import Engine
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.sequences import SharedContext, SharedSequence
from atv_local.target import Model, Target
from atv_serve.server import Server, ServerOptions
from tests.serve.listening import listening


@pytest.fixture(scope="session")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with another default strength, and so another fingerprint."""
    folder = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "atv.json").read_text())
    (folder / "atv.json").write_text(json.dumps(manifest | {"calibration": {"strength": 2.5, "layers": [2, 3]}}))
    return folder


@pytest.fixture(scope="session")
def url(tiny_gguf: Path, tiny_bundle: Path, other_bundle: Path) -> Iterator[str]:
    options = ServerOptions(parallel=3, queue=400, timeout=60)
    with listening(Server(tiny_gguf, {"kinds": tiny_bundle, "other": other_bundle}, options, n_threads=1)) as url:
        yield url


@pytest.fixture(scope="session")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def engines(tiny_gguf: Path, tiny_bundle: Path, other_bundle: Path) -> Iterator[dict[str, Engine]]:
    """Alone in a context like the server's, whose answers are the same bit for bit."""
    model = Model(tiny_gguf)
    shared = SharedContext(model, n_sequences=1, n_ctx=Target(model).n_ctx, n_threads=1)
    target = Target(model, n_threads=1, context=SharedSequence(shared))
    yield {
        name: Engine(target, Generator(Bundle(path)))
        for name, path in (("kinds", tiny_bundle), ("other", other_bundle))
    }
    shared.close()
