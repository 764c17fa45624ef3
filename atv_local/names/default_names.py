"""The default target and bundle that a user has set in `config.toml`: two keys, `model` and `bundle`.

A name is what -m and -g take; a relative path is relative to the file's folder, and `~` is the home folder.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from atv_local.data import reading
from atv_local.errors import UsageError
from atv_local.names.forms import absolute_name, exists, is_path
from atv_local.names.lookup import PATH, check_kind, expand, find_alias
from atv_local.names.stores import KINDS, Kind
from atv_local.names.user_files import MAX_BYTES, changing, user_folder


def config_file() -> Path:
    """Where defaults are set; the file need not exist."""
    return user_folder() / "config.toml"


def read_config() -> dict[Kind, str]:
    """The names that are set, with paths made absolute.

    Raises:
        UsageError: a file that cannot be read, is not TOML, or has another key or a value that is not a name.
    """
    return _parse(_text())


def set_default(kind: Kind, name: str | None) -> None:
    """Write a default to the file, or remove it with None. Comments in the file stay.

    Raises:
        UsageError: no such path, or a file that cannot be read, written or changed in this way.
        NotFoundError: no such alias, or a name that is not valid.
        ModelError: the name of a model leads to a file that is not a GGUF.
        BundleError: the name of a bundle leads to something else.
    """
    if name is not None:
        scheme, rest = expand(name, kind)  # raises for what is not such a name
        name = name if find_alias(name) and not exists(name) else absolute_name(name, kind)
        if scheme == PATH:
            check_kind(Path(rest), kind)
    file = config_file()
    with changing(file) as temporary:
        before = _text()
        wanted = {key: value for key, value in _parse(before).items() if key != kind}
        line = "" if name is None else f"{kind} = {json.dumps(name, ensure_ascii=False)}\n"
        lines = [line for line in before.splitlines(keepends=True) if not re.match(rf"\s*{kind}\s*=", line)]
        text = "".join(lines)
        text += "\n" * bool(text and not text.endswith("\n")) + line
        if _parse(text) != wanted | ({kind: name} if name is not None else {}):
            raise UsageError(f"{file} is not written as this command can change it; change `{kind}` there by hand")
        temporary.write_text(text, encoding="utf-8")


def _text() -> str:
    file = config_file()
    with reading(file, UsageError):
        try:
            with file.open("rb") as opened:
                raw = opened.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return ""
        if len(raw) > MAX_BYTES:
            raise UsageError(f"{file} is larger than {MAX_BYTES} bytes; remove it to start again")
        return raw.decode("utf-8-sig")


def _parse(text: str) -> dict[Kind, str]:
    file = config_file()
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not TOML: {error}; fix it, or remove it to start again") from error
    for key, value in content.items():
        if key not in KINDS:
            raise UsageError(f"{file} has an unknown key {key!r}; it can have model and bundle")
        if not isinstance(value, str) or not value or "\0" in value:
            raise UsageError(f"{file} has {key} = {value!r}, which is not the name of a model or bundle")
    return {kind: _absolute(file.parent, content[kind]) for kind in KINDS if kind in content}


def _absolute(folder: Path, name: str) -> str:
    if not is_path(name):
        return name
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # a user without a home
        path = Path(name)
    return str(folder / path)
