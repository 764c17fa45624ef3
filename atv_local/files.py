"""Outputs that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atv_local.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Raises:
        UsageError: the folder cannot be written.
    """
    with _beside(path) as folder:
        temporary = folder / path.name
        yield temporary
        temporary.replace(path)


@contextmanager
def replacing_folder(path: Path, marker: str) -> Iterator[Path]:
    """As `replacing`, for a folder. An existing folder is replaced only if it is empty or holds `marker`.

    Raises:
        UsageError: the folder cannot be written, or holds something else.
    """
    check_replaceable(path, marker)
    with _beside(path) as folder:
        temporary = folder / path.name
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(folder / "replaced")
        temporary.rename(path)


def check_replaceable(path: Path, marker: str) -> None:
    """Raise UsageError now if `replacing_folder` could not write `path` later, after much work."""
    if path.exists() and not (path.is_dir() and ((path / marker).is_file() or not any(path.iterdir()))):
        raise UsageError(f"{path} exists and is not a folder that holds {marker}; choose another output")
    with _beside(path):
        pass


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
