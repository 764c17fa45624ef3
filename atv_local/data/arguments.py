"""Numbers and paths from callers: checked where they are given, and converted to Python's own types."""

from __future__ import annotations

import operator
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from atv_local.errors import NotFoundError, UsageError
from atv_local.text import shown

_NO_LIMIT = (1 << 31) - 1
"""Tokens that no context has room for."""


def as_integer(name: str, value: Any, least: int, most: int | None = None, *, note: str = "") -> int:
    """A value as an int; NumPy's integers are integers, bools and floats are not.

    Args:
        name: the parameter, for the message.
        value: what was given for it.
        least: the smallest value.
        most: the largest value.
        note: ends the message, such as `0 keeps all tokens`.

    Raises:
        UsageError: another type, or out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    limits = f"of {least} or more" if most is None else f"from {least} to {most}"
    return int(_within(name, value, number, least, most, f"a whole number {limits}", note))


def as_max_tokens(value: Any, least: int = 1) -> int:
    """`max_tokens` as an int; -1 sets no limit but the context, as in llama.cpp.

    Args:
        value: what was given for it.
        least: the smallest value besides -1.

    Raises:
        UsageError: another type, or another value below `least`.
    """
    if isinstance(value, Integral) and value == -1:
        return _NO_LIMIT
    return as_integer("max_tokens", value, least, note="-1 means no limit")


def as_number(name: str, value: Any, least: float, most: float, *, note: str = "") -> float:
    """A value as a float; see `as_integer`.

    Raises:
        UsageError: not a real number, or out of range, as NaN is.
    """
    number = value if isinstance(value, Real) and not isinstance(value, bool) else None
    return float(_within(name, value, number, least, most, f"a number from {least:g} to {most:g}", note))


def as_path(name: str, value: Any, *, exists: bool = False) -> Path:
    """A value as a path.

    Args:
        name: the parameter, for the message.
        value: what was given for it.
        exists: whether it has to.

    Raises:
        UsageError: neither a text nor a path.
        NotFoundError: it does not exist and has to.
    """
    if not isinstance(value, str | os.PathLike) or not value or "\0" in str(value):
        raise UsageError(f"`{name}` {shown(value)} is not a path")
    path = Path(value)
    if exists and not os.path.lexists(path):
        hint = "; atv_local.load takes names, here a path is needed" if isinstance(value, str) else ""
        raise NotFoundError(f"there is no file or folder {str(path)!r}{hint}")
    return path


def is_iterable(value: object) -> bool:
    """Whether it can be iterated over; `Iterable` takes an array without dimensions, which cannot."""
    try:
        iter(value)  # type: ignore[call-overload]  # this is the question
    except TypeError:
        return False
    return True


def _within(name: str, value: Any, number: Any, least: float, most: float | None, wanted: str, note: str) -> Any:
    if number is None or not least <= number or not (most is None or number <= most):
        raise UsageError(f"`{name}` {shown(value)} is not {wanted}{note and '; '}{note}")
    return number
