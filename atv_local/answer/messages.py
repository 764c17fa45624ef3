"""The messages of a conversation, as OpenAI's API has them, in the form that chat templates take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from atv_local.answer.queries import check_text
from atv_local.errors import UsageError
from atv_local.target import Message
from atv_local.text import shown

Role = Literal["system", "developer", "user", "assistant"]

_ROLES = get_args(Role)


def as_message(given: Mapping[str, Any]) -> Message:
    """One message; `developer` is OpenAI's newer name for `system`, and templates know only the latter.

    Args:
        given: `role` and `content`: a text, a list of text parts such as `{"type": "text", "text": "..."}`, or None
            for an assistant. A `name` is ignored, and so are other fields that are empty.

    Raises:
        UsageError: another role, content that is not text, or another field, such as `tool_calls`.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f'a message {shown(given)} is not of the form {{"role": "user", "content": "..."}}')
    role: Any = given.get("role")
    content = given.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise UsageError(f"the role {shown(role)} of a message is not one of {', '.join(_ROLES)}")
    known = ("role", "content", "name")
    more = [str(name) for name, value in given.items() if name not in known and not _is_empty(value)]
    if more:
        raise UsageError(f"a message has {', '.join(more)}, which has no effect here; leave it out")
    text = "" if content is None and role == "assistant" else _text(content)
    if text is None:
        raise UsageError(f"a message with the role {role} has no content")
    check_text(f"the content of a message with the role {role}", text)
    return {"role": "system" if role == "developer" else role, "content": text}


def as_messages(given: Any) -> list[Message]:
    """A conversation.

    Raises:
        UsageError: not a list of messages, an empty one, or a message that `as_message` refuses.
    """
    if not isinstance(given, list | tuple):
        raise UsageError(
            f'`messages` {shown(given)} is not a list of {{"role": "user", "content": "..."}}; pass a text to `answer`'
        )
    try:
        messages = [as_message(message) for message in given]
    except UsageError as error:
        raise UsageError(f"`messages`: {error}") from error
    if not messages:
        raise UsageError("`messages` is empty; give it a message to answer")
    return messages


def last_query(messages: Sequence[Message]) -> str | None:
    """What the user said last, which makes the vector of the answer; None where the user said nothing."""
    return next((message["content"] for message in reversed(messages) if message["role"] == "user"), None)


def with_last_query(messages: Sequence[Message], query: str) -> list[Message]:
    """The messages with another text as what the user said last."""
    last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=None)
    return [message if place != last else {**message, "content": query} for place, message in enumerate(messages)]


def _text(content: Any) -> Any:
    """The text of a list of text parts; anything else stays for `check_text`."""
    if not isinstance(content, list | tuple):
        return content
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise UsageError(f'{shown(part)} is not of the form {{"type": "text", "text": "..."}}')
    return "".join(part["text"] for part in content)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float | list | tuple | Mapping) and not value)
