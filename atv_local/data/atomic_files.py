"""Outputs that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atv_local.data.file_errors import writing
from atv_local.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Raises:
        UsageError: the file cannot be written, or the disk is full.
    """
    with _beside(path) as folder:
        temporary = folder / "new"
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
        temporary, replaced = folder / "new", folder / "replaced"
        temporary.mkdir()
        yield temporary
        try:
            if path.exists():
                path.rename(replaced)
            temporary.rename(path)
        finally:
            if replaced.exists() and not path.exists():  # interrupted between the two
                replaced.rename(path)


def check_replaceable(path: Path, marker: str) -> None:
    """Raise UsageError now if `replacing_folder` could not write `path` later, after much work."""
    with writing(path):
        here = Path.cwd()
        if path.is_symlink() or path.is_mount() or path.resolve() in (here, *here.parents):
            raise UsageError(f"{path} is a link, a mount or around the current folder; choose another output")
        if path.exists() and not (path.is_dir() and ((path / marker).is_file() or not any(path.iterdir()))):
            raise UsageError(f"{path} exists and is not a folder that holds {marker}; choose another output")
    with _beside(path):
        pass


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as `path`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", dir=path.parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
