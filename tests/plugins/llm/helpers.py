"""What llm has logged, and the engine's own answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

from atv_local.answer.engine import Engine
from atv_local.target.prompt import PromptFormat

Ask = Callable[..., Result]


def logged(ask: Ask) -> list[dict[str, Any]]:
    """What llm keeps of its answers, the last one last."""
    rows: list[dict[str, Any]] = json.loads(ask("logs", "--json", "-n", "0").stdout)
    return rows


def said(engine: Engine, *messages: tuple[str, str], **settings: Any) -> tuple[str, int]:
    """The engine's own answer to a conversation, and how many tokens its prompt had."""
    spoken = [{"role": role, "content": text} for role, text in messages]
    prompt = PromptFormat(engine.target.vocabulary).conversation(spoken)
    events = list(engine.stream(spoken[-1]["content"], prompt=prompt, **settings))
    return "".join(event.text for event in events), events[-1].tokens.prompt
