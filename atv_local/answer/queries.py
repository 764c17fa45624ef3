"""Checks of what is asked: a query, or a conversation that ends in one, and the length of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from atv_local.errors import UsageError
from atv_local.target import Message, Sampling
from atv_local.vectors import Steering


def check_query(query: str) -> None:
    """Raise UsageError for a query that is empty or not Unicode text."""
    if not isinstance(query, str):
        raise UsageError(f"the query is of type {type(query).__name__}, not text")
    if not query.strip():
        raise UsageError("the query is empty; say something to answer")
    try:
        query.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, as undecodable bytes become in Python
        raise UsageError(f"the query is not UTF-8 text: {error.reason} at character {error.start}") from error


def check_max_tokens(max_tokens: int) -> None:
    """Raise UsageError unless it is a whole number above 0."""
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise UsageError(f"`max_tokens` {max_tokens!r} is not a whole number")
    if max_tokens < 1:
        raise UsageError(f"`max_tokens` {max_tokens} is below 1")


def check_settings(steering: Steering, sampling: Sampling | None) -> None:
    """Raise UsageError for values of other types."""
    if not isinstance(steering, Steering):
        raise UsageError(f"`steering` {steering!r} is not a Steering; pass Steering(strength=0.5) or OFF")
    if not isinstance(sampling, Sampling | None):
        raise UsageError(f"`sampling` {sampling!r} is not a Sampling; pass Sampling(temperature=0.7)")


def last_query(messages: Sequence[Message]) -> str:
    """The user's last message, which ends a conversation.

    Raises:
        UsageError: not a list of messages with `role` and `content` as texts, or the last one is not the user's.
    """
    if isinstance(messages, str) or not all(_is_message(message) for message in messages):
        raise UsageError('`messages` is not a list of {"role": "user", "content": "..."}; a text is for `answer`')
    if not messages or messages[-1]["role"] != "user":
        raise UsageError("the last of `messages` is not the user's; end with a message to answer")
    return messages[-1]["content"]


def _is_message(message: Message) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(part), str) for part in ("role", "content"))
