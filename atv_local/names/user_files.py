"""The files in which a user's own names and defaults are saved, and how they are changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atv_local.data import replacing, writing
from atv_local.errors import UsageError

MAX_BYTES = 1 << 20
"""The size limit of a file."""


def user_folder() -> Path:
    """The user's configuration folder for this program, as the system wants it.

    Raises:
        UsageError: a user without a home folder, as in some containers.
    """
    from platformdirs import user_config_path

    try:
        return user_config_path("atv-local", appauthor=False)
    except RuntimeError as error:
        raise UsageError(
            "this user has no home folder to hold settings; set HOME or XDG_CONFIG_HOME to a folder"
        ) from error


@contextmanager
def changing(file: Path) -> Iterator[Path]:
    """A temporary file to write what replaces `file`, while other processes cannot change it.

    Raises:
        UsageError: the file cannot be written, or another process is changing it.
    """
    from filelock import FileLock, Timeout

    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(file.with_suffix(".lock"), blocking=False).acquire()
        except Timeout as error:
            raise UsageError(f"another process is changing {file}; try again") from error
        with held, replacing(file) as temporary:
            yield temporary
