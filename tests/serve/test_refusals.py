"""Requests that are refused, and failures, each in one sentence without paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atv_local.errors import ModelError
from atv_local.target.target import Target
from tests.serve.clients import HTTP, user

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"steering": {"strengh": 1}}, "steering"),
    ({"steering": True}, "steering: this is false, or an object"),
    ({"steering": {"strength": "1"}}, "steering"),
    ({"steering": {"strength": 1e9}}, "steering"),
    ({"steering": {"layers": [3, 2]}}, "layers` 3-2"),
    ({"steering": {"layers": [1, 9]}}, "1 to 3"),
    ({"steering": {"positions": "some"}}, "positions"),
    ({"steering": {"bundle": "/etc/passwd"}}, "here are kinds, other"),
    ({"steering": {"generator": "other"}}, "steering.generator: unknown field; here it is bundle"),
    ({"steering": {"strength": 1}, "model": "base"}, "no bundle"),
    ({"unheard": 1}, "unheard"),
    ({"temperature": -1}, "temperature"),
    ({"n": 0}, "n:"),
    ({"max_tokens": 0}, "at least 1"),
    ({"max_tokens": -2}, "-1"),
    ({"frequency_penalty": 0.5}, "frequency_penalty: this has no effect here; leave it out"),
    ({"tools": [{}]}, "tools: no functions are called here; for JSON under a schema use response_format"),
    ({"store": 0}, "store: this has no effect here"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "the user's"),
    ({"messages": [{"role": "System", "content": "a"}, *user("a")]}, "role"),
    ({"messages": user("  ")}, "empty"),
    ({"messages": user("long " * 400)}, "context"),
]


@pytest.mark.parametrize(("change", "said_of_it"), REFUSED)
def test_what_cannot_be_meant_is_refused_in_a_sentence(url: str, change: dict[str, Any], said_of_it: str) -> None:
    answer = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("apple 1"), "stream": True} | change)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert said_of_it in error["message"]


def test_too_strong_a_vector_is_the_clients_mistake(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "logits", lambda target, _row=-1: np.full(target.vocabulary.n_tokens, np.nan))
    answer = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("apple 1")})
    assert answer.status_code == 400
    assert "lower `strength`" in answer.json()["error"]["message"]


def test_what_breaks_is_told_without_paths(
    url: str, tiny_gguf: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_target: Target, _row: int = -1) -> None:
        raise ModelError(f"{tiny_gguf.resolve()} gives no logits, nor does {tiny_bundle / 'onnx'}")

    monkeypatch.setattr(Target, "logits", broken)
    answer = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("apple 1")})
    assert answer.status_code == 500
    said_of_it = answer.json()["error"]["message"]
    assert said_of_it == f"{tiny_gguf.name} gives no logits, nor does {tiny_bundle.name}/onnx"
