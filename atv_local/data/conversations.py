"""Conversations in rows, as chat models are trained on: `messages` with roles, or ShareGPT's `from` and `value`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from atv_local.errors import DataError
from atv_local.text import shown, some_of

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def is_conversation(value: object) -> bool:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(message, dict) for message in value)


def conversation_parts(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """A conversation as parts of a row: `system` where it begins with such a message, `history`, which are pairs of
    question and answer, `input`, the last question, and `output` where it ends with an answer.

    Raises:
        DataError: a message that is not text, an unknown role, or roles that do not take turns.
    """
    turns = [_message(message) for message in messages]
    parts: dict[str, Any] = {}
    if turns[0][0] == "system" and (system := turns.pop(0)[1]).strip():
        parts["system"] = system
    roles = [role for role, _ in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2):
        order = some_of([role for role, _ in map(_message, messages)])
        raise DataError(f"after at most one system message, user and assistant must take turns, not {order}")
    texts = [text for _, text in turns]
    if len(texts) % 2 == 0:
        parts["output"] = texts.pop()
    parts["input"] = texts.pop()
    if texts:
        parts["history"] = list(zip(texts[::2], texts[1::2], strict=True))
    return parts


def unread_keys(messages: Iterable[dict[str, Any]]) -> list[str]:
    """Keys of messages with something in them that is not read, such as `tool_calls` and `"weight": 0`."""
    unread = dict.fromkeys(
        key
        for message in messages
        for key, value in message.items()
        if key not in (_name_of(message), _content_of(message)) and value not in (None, "", [], {})
        if (key, value) != ("weight", 1)
    )
    return list(unread)


def _name_of(message: dict[str, Any]) -> str:
    return "role" if "role" in message else "from"


def _content_of(message: dict[str, Any]) -> str:
    return "content" if "content" in message else "value"


def _message(message: dict[str, Any]) -> tuple[str, str]:
    """Role and text."""
    name, content = message.get(_name_of(message)), message.get(_content_of(message))
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if (role := _ROLES.get(name.strip().lower()) if isinstance(name, str) else None) is None:
        raise DataError(f"the role {shown(name)} is not system, user or assistant")
    if not isinstance(content, str):
        raise DataError(f"a message of the {role} is not text")
    return role, content
