"""Ctrl-C that a library has turned into an error of its own."""

from __future__ import annotations


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error: compiled modules that are being imported report it as an ImportError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
