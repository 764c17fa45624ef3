"""Packages that only some commands need, and how to install them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atv_local.errors import UsageError


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Turn a missing import into a UsageError that says which extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; run: pip install 'atv-local[{extra}]'") from error
