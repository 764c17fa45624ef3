"""What tests ask the server, and the engine's own answer."""

from __future__ import annotations

from typing import Any

from atv_local.answer.engine import Engine


def said(engine: Engine, query: str, **settings: Any) -> str:
    return engine.answer(query, **settings).text


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]
