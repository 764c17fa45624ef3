"""Looking up the path of a name. Defaults are in `choices`; whoever opens the file checks its content."""

from __future__ import annotations

from pathlib import Path

from atv_local.errors import NotFoundError
from atv_local.names.aliases import Alias, read_aliases
from atv_local.names.embedded import embedded_bundle, embedded_model
from atv_local.names.forms import DEFAULT, RESERVED, check_embedded, exists, is_path, split_scheme
from atv_local.names.hints import hint
from atv_local.names.schemes import HUB, schemes, store
from atv_local.names.stores import Kind
from atv_local.text import some_of

PATH = ""
"""The scheme of a path."""
_EMBEDDED = "(embedded)"
"""In place of a scheme: that of `default`, `demo` and `general`."""


def look_up(name: str | Path, kind: Kind | None, *, offline: bool = False, here: bool = True) -> Path:
    """The path of a model or a bundle; None as kind takes either, and a bundle if there are both.

    Args:
        name: a `Path` is itself, whether it exists or not.
        kind: what is wanted.
        offline: download nothing.
        here: whether the name was given in the current folder, so that what exists there comes first.

    Raises:
        NotFoundError: a name that leads to nothing of that kind.
        ModelError: the embedded files are not installed.
    """
    if isinstance(name, Path):
        return name
    scheme, rest = expand(name, kind, here=here)
    if scheme == _EMBEDDED:
        return embedded_model() if rest == DEFAULT else embedded_bundle(rest)
    return store(scheme).resolve(rest, kind, offline=offline) if scheme else Path(rest)


def expand(name: str, kind: Kind | None, *, here: bool = True) -> tuple[str, str]:
    """Where a name leads, aliases followed: the scheme, or PATH or _EMBEDDED, and the name there.

    Raises:
        NotFoundError: not a name, or one of the other kind.
    """
    if here and exists(name):
        return PATH, name
    if name in RESERVED:
        check_embedded(name, kind)
        return _EMBEDDED, name
    scheme, rest = split_scheme(name)
    if scheme == HUB or (scheme and scheme in schemes()):
        return scheme, rest
    if scheme:
        known = ", ".join(f"{one}:" for one in schemes())
        raise NotFoundError(
            f"no installed package provides names that begin with {scheme}:; known are {known}{hint(name, kind)}"
        )
    if is_path(name):
        if exists(name):
            return PATH, name
        raise NotFoundError(f"there is no file or folder {name!r}{hint(name, kind)}")
    alias = find_alias(name)
    if alias is None:
        known = some_of(_short_names(kind))
        raise NotFoundError(f"there is no file, folder or alias {name!r}; known names: {known}{hint(name, kind)}")
    if not (text := alias.get(kind)):
        raise NotFoundError(f"the alias {name!r} stands for {alias}, which names no {kind}")
    return expand(text, kind, here=False)


def check_kind(path: Path, kind: Kind) -> None:
    """Check that a path leads to a GGUF, or to a bundle, without opening the model or the graph.

    Raises:
        ModelError: it does not begin as a GGUF does.
        BundleError: it has no valid manifest.
        NotFoundError: there is nothing.
    """
    if kind == "model":
        from atv_local.target import check_gguf  # llama.cpp, which no other name needs

        check_gguf(path)
    else:
        from atv_local.generator import read_manifest  # pydantic, as above

        read_manifest(path)


def _short_names(kind: Kind | None) -> list[str]:
    embedded = [name for name, of in RESERVED.items() if kind in (None, of)]
    return embedded + sorted(name for name, alias in read_aliases().items() if alias.get(kind))


def find_alias(name: str) -> Alias | None:
    """The alias of that name, if a name is one by its form."""
    if name in RESERVED or split_scheme(name)[0] or is_path(name):
        return None
    return read_aliases().get(name)
