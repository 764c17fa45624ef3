"""Errors of the file system as errors of ours that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atv_local.errors import AtvError, DataError, NotFoundError, UsageError


@contextmanager
def reading(path: Path | str, kind: type[AtvError] = DataError) -> Iterator[None]:
    """Raise NotFoundError for a missing file, and `kind` for one that cannot be read or decoded as UTF-8.

    Args:
        path: the file, or words that name it, such as `f"the model {path}"`.
        kind: the error to raise; UsageError also for a missing file, which an option named.
    """
    try:
        yield
    except AtvError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and kind is not UsageError:
            kind = NotFoundError
        raise kind(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise kind(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; save the file as UTF-8") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise UsageError for an output that cannot be written."""
    try:
        yield
    except AtvError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
