"""Checks of what is asked: a query or several, and the settings of the answer."""

from __future__ import annotations

from collections.abc import Iterable

from atv_local.data import is_iterable
from atv_local.errors import UsageError
from atv_local.target import Prompt, Sampling
from atv_local.text import shown
from atv_local.vectors import Steering


def check_query(query: str) -> None:
    """Raise UsageError for a query that is empty or not Unicode text."""
    check_text("the query", query)
    if not query.strip():
        raise UsageError("the query is empty")


def check_queries(queries: Iterable[str]) -> None:
    """Raise UsageError for one text, or what is not iterable; the queries themselves are checked in their turn."""
    if isinstance(queries, str):
        raise UsageError(f"`queries` {shown(queries)} is one text; pass a list of them")
    if not is_iterable(queries):
        raise UsageError(f"`queries` {queries!r} is not a list of texts")


def check_prompt(prompt: Prompt | None) -> None:
    """Raise UsageError for something else than a prompt, or one without tokens."""
    if not isinstance(prompt, Prompt | None):
        raise UsageError(
            f"`prompt` {shown(prompt)} is not a Prompt, as `engine.prompts(text)` makes; a text is given as the query"
        )
    if prompt is not None and not prompt.tokens:
        raise UsageError("`prompt` has no tokens")


def check_settings(steering: Steering, sampling: Sampling | None = None, system: str | None = None) -> None:
    """Raise UsageError for values of other types."""
    if not isinstance(steering, Steering):
        raise UsageError(f"`steering` {steering!r} is not a Steering; pass Steering(strength=0.5) or OFF")
    if not isinstance(sampling, Sampling | None):
        raise UsageError(f"`sampling` {sampling!r} is not a Sampling; pass Sampling(temperature=0.7)")
    if system is not None:
        check_text("`system`", system)


def check_text(what: str, text: str) -> None:
    """Raise UsageError for something else than Unicode text; `what` names it."""
    if not isinstance(text, str):
        raise UsageError(f"{what} {shown(text)} is of type {type(text).__name__}, not text")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, as undecodable bytes become in Python
        raise UsageError(f"{what} is not UTF-8 text: {error.reason} at character {error.start}") from error
