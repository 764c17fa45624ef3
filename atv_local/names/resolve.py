"""From the name of a model or a bundle to its path. Knows nothing of what is in the files.

A name is a path, `hf:user/repo[:quant]`, another store's `scheme:name`, or an alias of one of these; none is the
embedded default. What exists as a file or folder is always that file or folder.
"""

from __future__ import annotations

from pathlib import Path

from atv_local.errors import NameNotFoundError, UsageError
from atv_local.names.aliases import read_aliases
from atv_local.names.embedded import embedded_bundle, embedded_model
from atv_local.names.stores import HUB, Kind, schemes, split_scheme, store

_FILES = (".gguf", ".zip")


def resolve_model(name: str | Path | None = None, *, offline: bool = False) -> Path:
    """The GGUF that a name stands for. A `Path` is itself; what is missing as a file is for its reader to say.

    Args:
        name: by default the embedded model.
        offline: download nothing; so does HF_HUB_OFFLINE. What is in the cache is never looked for on the hub.

    Raises:
        NameNotFoundError: a name that leads to no model.
        ModelError: no name, and the embedded model is not installed.
    """
    return _path(name, "model", offline=offline) if name else embedded_model()


def resolve_bundle(name: str | Path | None = None, *, offline: bool = False) -> Path:
    """The bundle, a folder or a zip, that a name stands for; by default the demo's. See `resolve_model`."""
    return _path(name, "bundle", offline=offline) if name else embedded_bundle()


def resolve_name(name: str | Path, *, offline: bool = False) -> Path:
    """What a name stands for, whatever it is: of a repository that has both, the bundle. See `resolve_model`."""
    return _path(name, None, offline=offline)


def pull_name(name: str, *, offline: bool = False) -> Path:
    """As `resolve_name`, but what is on the hub is brought up to date there, unless offline.

    Raises:
        NameNotFoundError: also for a path where nothing is.
    """
    scheme, rest = _split(text := expand_alias(name))
    if scheme == HUB and not offline:
        from atv_local.names.hub import HubName, is_offline

        if not is_offline():
            from atv_local.names.hub_download import download

            return download(HubName.parse(rest))
    if not scheme and not _exists(text):
        raise NameNotFoundError(f"there is no file or folder {text!r}")
    return resolve_name(text, offline=offline)


def expand_alias(name: str) -> str:
    """A name as it is, or what it is an alias of.

    Raises:
        NameNotFoundError: neither a path, nor a name of another store, nor an alias.
    """
    if _exists(name) or split_scheme(name)[0] or _is_path(name):
        return name
    known = read_aliases()
    if name not in known:
        raise NameNotFoundError(f"there is no file, folder or alias {name!r}; `atv-local ls` lists what can be named")
    return known[name]


def is_managed(name: str) -> bool:
    """Whether a name leads into the cache of another program, where nothing is to be changed."""
    scheme, path = _split(expand_alias(name))
    if scheme:
        return True
    from atv_local.names.hub import is_cached

    return is_cached(Path(path))


def absolute_name(text: str) -> str:
    """A name that means the same in any folder: an absolute path, or a name in a store, in full.

    Raises:
        UsageError: none of these; an alias is not one either.
        NameNotFoundError: an unknown scheme, or one before text that is no name there.
    """
    if _exists(text):
        return str(Path(text).absolute())
    scheme, rest = _split(text)
    if not scheme:
        known = ", ".join(f"{name}:" for name in schemes())
        raise UsageError(f"{text!r} is neither a file or folder that exists nor a name that begins with {known}")
    return f"{scheme}:{store(scheme).full_name(rest)}"


def _path(name: str | Path, kind: Kind | None, *, offline: bool) -> Path:
    if isinstance(name, Path):
        return name
    scheme, rest = _split(text := expand_alias(name))
    return store(scheme).resolve(rest, kind, offline=offline) if scheme else Path(text)


def _split(text: str) -> tuple[str, str]:
    """The scheme of a name and the rest of it; no scheme for what exists as a path."""
    return ("", text) if _exists(text) else split_scheme(text)


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.lower().endswith(_FILES)


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False
