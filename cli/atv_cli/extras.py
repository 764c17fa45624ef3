"""Optional parts of the installation, and the sentence that says how to get them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atv_local.errors import UsageError


@contextmanager
def need(extra: str) -> Iterator[None]:
    """Turn a missing import into a UsageError that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; get it with: pip install 'atv-local[{extra}]'") from error
