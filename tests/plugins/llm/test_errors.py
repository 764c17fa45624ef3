"""What the model `atv` in llm refuses, each in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.llm.helpers import Ask


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("layers", "x", "`layers` 'x' is not A-B"),
        ("layers", "2-9", "steerable layers are 1 to 3"),
        ("strength", "5000", "-1000 to 1000"),
        ("positions", "first", "'all', 'last' or 'decode'"),
        ("temperature", "-1", "0 to 100"),
        ("max_tokens", "0", "of 1 or more"),
        ("n_ctx", "9999", "from 1 to 512"),
        ("model", "/no/model.gguf", "no file or folder"),
        ("bundle", "/no/bundle", "no file or folder"),
    ],
)
def test_mistakes_are_one_sentence(ask: Ask, pair: list[str], option: str, value: str, words: str) -> None:
    result = ask(*pair, "-o", option, value, "apple 1")
    assert (result.exit_code, result.stdout.strip()) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert ask("logs", "--json").stdout.strip() in ("", "[]")


def test_a_query_that_does_not_fit_needs_a_larger_context(ask: Ask, pair: list[str]) -> None:
    query = "apple " * 50
    small = ask(*pair, "-o", "n_ctx", "256", query)
    assert small.exit_code == 1
    assert "shorten it or raise" in small.stderr
    assert ask(*pair, "-o", "n_ctx", "512", query).exit_code == 0


def test_a_bundle_for_another_target_is_refused(ask: Ask, pair: list[str]) -> None:
    result = ask(*pair[:5], "apple 1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the bundle ")
    assert len(result.stderr.splitlines()) == 1


def test_an_empty_query_is_refused(ask: Ask, pair: list[str]) -> None:
    assert "query" in ask(*pair, "").stderr
    assert "empty" in ask(*pair, " ").stderr


def test_attachments_and_tools_are_refused(ask: Ask, pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("apple")
    for more, what in (
        (["--at", str(tmp_path / "note.txt"), "text/plain"], "attachments"),
        (["-T", "llm_version"], "tools"),
    ):
        result = ask(*pair, *more, "apple 1")
        assert result.exit_code == 1
        assert f"not support {what}" in result.stderr
