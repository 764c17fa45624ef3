"""Which bundles and control vectors `serve` offers, and by which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from atv_cli.verbs.serve import _split_id
from atv_local.errors import UsageError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/lr=0.002/bundle", "lr=1", "kinds-v1.2"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a=b.gguf").touch()


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ("spam=kinds", ("spam", "kinds")),
        ("spam=runs/lr=0.002/bundle", ("spam", "runs/lr=0.002/bundle")),
        ("runs/lr=0.002/bundle", ("bundle", "runs/lr=0.002/bundle")),
        ("runs/lr=0.003/bundle", ("bundle", "runs/lr=0.003/bundle")),
        ("lr=1", ("lr=1", "lr=1")),
        ("lr=2", ("lr", "2")),
        ("a=b.gguf", ("a=b", "a=b.gguf")),
        ("kinds-v1.2", ("kinds-v1.2", "kinds-v1.2")),
        ("x/kinds.zip", ("kinds", "x/kinds.zip")),
        ("hf:user/repo-1.5", ("repo-1.5", "hf:user/repo-1.5")),
    ],
)
def test_an_id_is_before_the_equals_sign_of_what_is_not_there(given: str, split: tuple[str, str]) -> None:
    assert _split_id(given) == split


@pytest.mark.parametrize("given", ["=kinds", "spam=", "a\nb=kinds", f"{'x' * 300}=kinds"])
def test_what_is_no_id(given: str) -> None:
    with pytest.raises(UsageError, match="ID=NAME"):
        _split_id(given)
