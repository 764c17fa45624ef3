"""The forms of names: a path, `scheme:name`, the name of an embedded file, or a short name."""

from __future__ import annotations

import re
from pathlib import Path

from atv_local.errors import NotFoundError, UsageError
from atv_local.names.schemes import schemes, store
from atv_local.names.stores import Kind

DEFAULT = "default"
"""The embedded target."""
DEMO = "demo"
"""The embedded bundle that is the default."""
GENERAL = "general"
"""The embedded bundle of many tasks that are told in words."""
RESERVED: dict[str, Kind] = {DEFAULT: "model", DEMO: "bundle", GENERAL: "bundle"}
"""Names that no alias can take, and what they name."""

FILES = (".gguf", ".zip")
"""How a name ends that is always a path."""

_SCHEME = re.compile(r"([a-z][a-z0-9+-]+):(.*)", re.DOTALL)  # a single letter is a Windows drive


def split_scheme(text: str) -> tuple[str, str]:
    """The scheme of a name and what follows its colon; no scheme for any other form."""
    match = _SCHEME.fullmatch(text)
    return (match[1], match[2]) if match else ("", text)


def is_path(text: str) -> bool:
    """Whether a name can only be a path, existing or not."""
    return not split_scheme(text)[0] and ("/" in text or "\\" in text or text.lower().endswith(FILES))


def exists(text: str) -> bool:
    """Whether there is a file or folder of this name."""
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def check_embedded(name: str, kind: Kind | None) -> None:
    """Raise NotFoundError where the embedded model is named for a bundle, or the other way around."""
    if name in RESERVED and kind not in (None, RESERVED[name]):
        raise NotFoundError(
            f"{DEFAULT!r} is the embedded model, {DEMO!r} and {GENERAL!r} are its bundles; name a {kind}"
        )


def absolute_name(text: str, kind: Kind | None = None) -> str:
    """A name that means the same in any folder: an absolute path, a name in a store, in full, or an embedded file's.

    Raises:
        UsageError: none of these; an alias is not one either.
        NotFoundError: an unknown scheme, one before text that is not a name there, or the wrong embedded file.
    """
    if exists(text):
        return str(Path(text).absolute())
    if text in RESERVED:
        check_embedded(text, kind)
        return text
    scheme, rest = split_scheme(text)
    if not scheme:
        known = ", ".join(f"{name}:" for name in schemes())
        raise UsageError(f"{text!r} is neither a file or folder that exists nor a name that begins with {known}")
    return f"{scheme}:{store(scheme).full_name(rest)}"
