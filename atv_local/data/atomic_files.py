"""Outputs that are whole or absent: written under a temporary name, synced, then renamed.

The temporary folder of an output has a fixed name beside it and a lock inside, so that one process writes the output
at a time, and the next one restores or removes what a killed one left.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atv_local.data.exchange import exchange, sync, sync_entry
from atv_local.data.file_errors import writing
from atv_local.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; give it the name `path` on success, remove it on failure.

    A link is followed, and a device or pipe is written to: neither is replaced.

    Raises:
        UsageError: the file cannot be written, another process is writing it, or the disk is full.
    """
    with writing(path):
        special = path.exists() and not path.is_file() and not path.is_dir()
        if path.is_symlink() and not special:
            path = path.resolve()
    if special:
        with writing(path), tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "new"
            yield temporary
            with temporary.open("rb") as file, path.open("wb", buffering=0) as device:
                shutil.copyfileobj(file, device)
        return
    with _beside(path) as folder:
        temporary = folder / "new"
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync_entry(path)


@contextmanager
def replacing_folder(path: Path, marker: str, *, overwrite: bool = False) -> Iterator[Path]:
    """As `replacing`, for a folder. One that is not empty is replaced only with `overwrite`, and if it has `marker`.

    Raises:
        UsageError: the folder exists, cannot be written, or another process is writing it.
    """
    _check_folder(path, marker, overwrite=overwrite)  # to name a wrong place before anything is made beside it
    with _beside(path) as folder:
        _check_folder(path, marker, overwrite=overwrite)
        temporary, replaced = folder / "new", folder / "replaced"
        temporary.mkdir()
        yield temporary
        sync(temporary)
        _check_folder(path, marker, overwrite=overwrite)
        try:
            if path.exists() and not exchange(temporary, path):
                path.rename(replaced)
                temporary.rename(path)
            elif not path.exists():
                temporary.rename(path)
        finally:
            if replaced.exists() and not path.exists():  # interrupted between the two
                replaced.rename(path)
        sync_entry(path)


def check_replaceable(path: Path, marker: str, *, overwrite: bool = False) -> None:
    """Raise UsageError now if `replacing_folder` could not write `path` later, after much work."""
    _check_folder(path, marker, overwrite=overwrite)
    with _beside(path):
        pass


def _check_folder(path: Path, marker: str, *, overwrite: bool) -> None:
    with writing(path):
        here = Path.cwd()
        if path.is_symlink() or path.is_mount() or path.resolve() in (here, *here.parents):
            raise UsageError(f"{path} is a link, a mount or around the current folder; choose another output")
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
        if not (path / marker).is_file():
            raise UsageError(f"{path} exists and is not a folder that holds {marker}; choose another output")
        if not overwrite:
            raise UsageError(f"{path} exists; pass `overwrite=True` to replace it, or choose another output")


def check_replaceable_file(path: Path, is_ours: Callable[[Path], bool], kind: str, *, overwrite: bool) -> None:
    """Raise UsageError for a file that `replacing` must not replace: any without `overwrite`, and one of others.

    Args:
        path: the output. Devices and pipes are written to.
        is_ours: whether a file is of this kind, by its content.
        kind: in words, such as "control vector".
        overwrite: whether the user has asked for it.
    """
    with writing(path):
        if not path.exists() or not (path.is_file() or path.is_dir()):
            return
        if path.is_dir() or not is_ours(path):
            raise UsageError(f"{path} exists and is not a {kind}; choose another output")
    if overwrite is not True:  # and not for a word such as "no"
        raise UsageError(f"{path} exists; pass `overwrite=True` to replace it, or choose another output")


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold an output for a long time; others that hold it too are refused, and `replacing` is not.

    Raises:
        UsageError: another process holds it.
    """
    held = _beside(path, "lock")
    held.__enter__()
    try:
        yield
    finally:
        held.__exit__(None, None, None)  # errors of the work are none of this file


def restore(path: Path) -> None:
    """Restore or remove what a killed process left of an output, before it is read.

    Raises:
        UsageError: another process is writing it.
    """
    if _temporary_folder(path, "new").exists():
        with _beside(path):
            pass


def _temporary_folder(path: Path, kind: str) -> Path:
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]  # since long names may begin alike
    return path.parent / f".{path.name[:40]}.{name}.{kind}"


@contextmanager
def _beside(path: Path, kind: str = "new") -> Iterator[Path]:
    """The temporary folder of an output, on the same file system, held by this process."""
    folder = _temporary_folder(path, kind)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(folder, path)
        try:
            _restore(folder, path)
            yield folder
        finally:
            shutil.rmtree(folder / "replaced", ignore_errors=True)
            _remove_new(folder)
            if os.name == "nt":  # which removes no open file
                os.close(descriptor)
            (folder / "lock").unlink(missing_ok=True)
            if os.name != "nt":
                os.close(descriptor)
            with suppress(OSError):  # the next process has it already
                folder.rmdir()


def _lock(folder: Path, path: Path) -> int:
    from filelock import lock_descriptor  # slow to import, and an answer writes nothing

    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just removed the folder
            continue
        try:
            if not lock_descriptor(descriptor, blocking=False):
                raise UsageError(f"another process is writing {path}; wait for it, or choose another output")
            if os.path.samestat(os.fstat(descriptor), (folder / "lock").stat()):
                return descriptor
        except FileNotFoundError:  # removed between opening and locking
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _restore(folder: Path, path: Path) -> None:
    """Handle what a killed process left."""
    if (replaced := folder / "replaced").exists():
        if path.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(path)
    _remove_new(folder)


def _remove_new(folder: Path) -> None:
    """Remove the new output, and what a library that wrote it had beside it when it was killed."""
    for path in folder.iterdir():
        if path.name not in ("lock", "replaced"):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
