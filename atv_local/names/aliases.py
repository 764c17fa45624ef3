"""The user's own short names for models and bundles, in one JSON file. Knows nothing of what they lead to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atv_local.data import reading, replacing, writing
from atv_local.errors import NameNotFoundError, UsageError
from atv_local.names.stores import split_scheme

_NAME = re.compile(r"\w[\w.-]{0,63}")
_FILES = (".gguf", ".zip")  # what ends so is a path
_MAX_BYTES = 1 << 20


def aliases_file() -> Path:
    """Where they are kept: `aliases.json` in the user's configuration folder for this program."""
    from platformdirs import user_config_path

    return user_config_path("atv-local", appauthor=False) / "aliases.json"


def read_aliases() -> dict[str, str]:
    """What each name stands for: an absolute path, or a name of another store.

    Raises:
        NameNotFoundError: the file cannot be read, or is not what `add_alias` writes.
    """
    place = aliases_file()
    with reading(f"the aliases in {place}", NameNotFoundError):
        try:
            with place.open("rb") as opened:
                raw = opened.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
    try:
        found = json.loads(raw) if len(raw) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NameNotFoundError(f'{place} is not of the form {{"name": "target"}}; fix it, or remove it to start again')
    for name, to in found.items():
        if not (is_alias_name(name) and _is_target(to)):
            raise NameNotFoundError(
                f"{place} has {name!r} for {to!r}, which is not a name for an absolute path or for something in "
                "another store; fix it, or remove it to start again"
            )
    return found


def add_alias(name: str, target: str) -> None:
    """Let a name stand for a target, whatever it stood for before.

    Raises:
        UsageError: a name that could be taken for something else, or a file that cannot be written or is just being.
        NameNotFoundError: as in `read_aliases`.
    """
    if not is_alias_name(name):
        raise UsageError(
            f"{name!r} cannot be an alias; take up to 64 letters, digits, '.', '_' or '-', and no ending of a file"
        )
    with _changing() as found:
        found[name] = target


def remove_alias(name: str) -> None:
    """Forget a name.

    Raises:
        UsageError: there is no such alias, or a file that cannot be written or is just being.
        NameNotFoundError: as in `read_aliases`.
    """
    with _changing() as found:
        if name not in found:
            raise UsageError(f"there is no alias {name!r}; `atv-local alias` lists them")
        del found[name]


def is_alias_name(text: str) -> bool:
    """Whether an alias can have this name: no separator, no colon, not like a file's."""
    return bool(_NAME.fullmatch(text)) and not text.lower().endswith(_FILES)


def _is_target(to: object) -> bool:
    if not isinstance(to, str) or "\0" in to:
        return False
    try:
        os.fsencode(to)
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return bool(split_scheme(to)[0]) or Path(to).is_absolute()


@contextmanager
def _changing() -> Iterator[dict[str, str]]:
    """The aliases, to change; written at the end. Locked against other processes meanwhile."""
    from filelock import FileLock, Timeout

    place = aliases_file()
    lock = FileLock(place.with_suffix(".lock"), blocking=False)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = lock.acquire()
        except Timeout as error:
            raise UsageError(f"another process is just changing {place}; try again") from error
    with held:
        yield (found := read_aliases())
        with replacing(place) as temporary:
            temporary.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
