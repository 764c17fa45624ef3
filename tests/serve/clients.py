"""What tests ask the server, and the engine's own answer."""

from __future__ import annotations

from typing import Any

import httpx

from atv_local.answer.engine import Engine

HTTP = httpx.Client(verify=False, trust_env=False, headers={"connection": "close"}, timeout=60)
"""For requests to the server; a client for each would spend its time on reading certificates."""


def said(engine: Engine, query: str, **settings: Any) -> str:
    return engine.answer(query, **settings).text


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def post(url: str, path: str, **body: Any) -> dict[str, Any]:
    """The JSON of a request that succeeds."""
    response = HTTP.post(f"{url}/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
