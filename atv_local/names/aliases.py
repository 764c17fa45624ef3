"""The user's own short names, in one JSON file: each for a model, a bundle, or a model and its bundle."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atv_local.data import reading
from atv_local.errors import NotFoundError, UsageError
from atv_local.names.forms import FILES, RESERVED, absolute_name, split_scheme
from atv_local.names.stores import Kind
from atv_local.names.user_files import MAX_BYTES, changing, user_folder
from atv_local.text import some_of

_NAME = re.compile(r"\w[\w.-]{0,63}")
_FORM = '{"name": "what it stands for"} or {"name": {"model": "...", "bundle": "..."}}'


@dataclass(frozen=True)
class Alias:
    """What a short name stands for, as absolute names: `either` a model or a bundle; or a model, a bundle or both."""

    either: str = ""
    model: str = ""
    bundle: str = ""

    def get(self, kind: Kind | None) -> str:
        """What it stands for where a model or a bundle is wanted, empty if it has none; None prefers the bundle."""
        if kind is None:
            return self.either or self.bundle or self.model
        return self.either or (self.model if kind == "model" else self.bundle)

    def __str__(self) -> str:
        named = [f"-m {self.model}"] * bool(self.model) + [f"-g {self.bundle}"] * bool(self.bundle)
        return self.either or " ".join(named)


def read_aliases() -> dict[str, Alias]:
    """What each name stands for.

    Raises:
        NotFoundError: the file cannot be read, or is not what `add_alias` writes.
    """
    file = aliases_file()
    with reading(f"the aliases in {file}", NotFoundError):
        try:
            with file.open("rb") as opened:
                raw = opened.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
    try:
        content = json.loads(raw) if len(raw) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NotFoundError(f"{file} is not of the form {_FORM}; fix it, or remove it to start again")
    return {name: _parse(file, name, value) for name, value in content.items()}


def add_alias(name: str, either: str = "", *, model: str = "", bundle: str = "") -> Alias | None:
    """Let a name stand for a model or a bundle, or for a model and a bundle together.

    Returns:
        What it stood for before.

    Raises:
        UsageError: a name that could be taken for something else, something that is neither a path that exists nor a
            name in a store, or a file that cannot be written or that another process is changing.
        NotFoundError: as in `read_aliases`.
    """
    if not _can_be_alias(name):
        raise UsageError(
            f"{name!r} cannot be an alias; take up to 64 letters, digits, '.', '_' or '-', "
            f"without {' or '.join(FILES)} at the end, and not {' or '.join(RESERVED)}"
        )
    if bool(either) == bool(model or bundle):
        raise UsageError(f"the alias {name!r} needs one value, or a `model`, a `bundle` or both")
    alias = Alias(
        either=either and absolute_name(either),
        model=model and absolute_name(model, "model"),
        bundle=bundle and absolute_name(bundle, "bundle"),
    )
    with changing(aliases_file()) as temporary:
        aliases = read_aliases()
        before = aliases.get(name)
        _write(temporary, aliases | {name: alias})
    return before


def remove_alias(name: str) -> None:
    """Forget a name.

    Raises:
        UsageError: there is no such alias, or a file that cannot be written or that another process is changing.
        NotFoundError: as in `read_aliases`.
    """
    with changing(aliases_file()) as temporary:
        aliases = read_aliases()
        if name not in aliases:
            known = f"the aliases are {some_of(aliases)}" if aliases else "there are none"
            raise UsageError(f"there is no alias {name!r}; {known}")
        _write(temporary, {other: alias for other, alias in aliases.items() if other != name})


def aliases_file() -> Path:
    """The file that aliases are saved in."""
    return user_folder() / "aliases.json"


def _write(file: Path, aliases: dict[str, Alias]) -> None:
    content = {name: alias.either or _pair(alias) for name, alias in aliases.items()}
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _pair(alias: Alias) -> dict[str, str]:
    return {name: text for name, text in asdict(alias).items() if text}


def _parse(file: Path, name: str, value: Any) -> Alias:
    parts = value if isinstance(value, dict) else {"either": value}
    known = [{"either"}] if parts is not value else [{"model"}, {"bundle"}, {"model", "bundle"}]
    if not (_can_be_alias(name) and parts.keys() in known and all(map(_is_absolute, parts.values()))):
        raise NotFoundError(
            f"{file} has {name!r} for {value!r}, which is not a name for absolute paths or names in a store; "
            "fix it, or remove it to start again"
        )
    return Alias(**parts)


def _can_be_alias(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and not text.lower().endswith(FILES) and text not in RESERVED


def _is_absolute(text: object) -> bool:
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return text in RESERVED or bool(split_scheme(text)[0]) or Path(text).is_absolute()
