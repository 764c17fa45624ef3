"""The models and bundles that can be named right now. Reads names, sizes and manifests; opens no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atv_local.errors import AtvError
from atv_local.generator import read_manifest
from atv_local.names.aliases import aliases_file, read_aliases
from atv_local.names.embedded import embedded_bundle, embedded_model
from atv_local.names.gguf_names import parts_of, quantisation_of
from atv_local.names.resolve import resolve_name
from atv_local.names.stores import schemes, store
from atv_local.target import check_gguf


@dataclass(frozen=True)
class Entry:
    """One name and where it leads. `kind` is model or bundle; of a name that leads nowhere `error` says why."""

    name: str
    kind: str = ""
    path: str = ""
    size: int = 0
    """Bytes of all its files."""
    quantisation: str = ""
    """Of a model, where its file's name or the store says it."""
    fits: str = ""
    """Of a bundle: the name of the target it was made for."""
    error: str = ""


def list_names() -> Iterator[Entry]:
    """The embedded defaults, aliases, and what the stores have on this machine."""
    for default in (embedded_model, embedded_bundle):
        try:
            yield _entry("(default)", default())
        except AtvError as error:
            yield Entry("(default)", error=str(error))
    try:
        for name in sorted(read_aliases()):
            yield _named(name, partial(resolve_name, name, offline=True))
    except AtvError as error:
        yield Entry("(aliases)", path=str(aliases_file()), error=str(error))
    for scheme in schemes():
        try:
            if (place := store(scheme)).is_available():
                for listed in place.names():
                    find = partial(place.resolve, listed.name, None, offline=True)
                    yield _named(f"{scheme}:{listed.name}", find, listed.quantisation)
        except AtvError as error:
            yield Entry(f"{scheme}:", error=str(error))


def _named(name: str, find: Callable[[], Path], quantisation: str = "") -> Entry:
    try:
        return _entry(name, find(), quantisation)
    except AtvError as error:
        return Entry(name, error=str(error))


def _entry(name: str, path: Path, quantisation: str = "") -> Entry:
    try:
        if path.is_dir() or path.suffix.lower() == ".zip":
            return Entry(name, "bundle", str(path), _size(path), fits=read_manifest(path)[0].target.name)
        check_gguf(path)
        return Entry(name, "model", str(path), _size(path), quantisation or quantisation_of(path.name))
    except (AtvError, OSError) as error:
        return Entry(name, path=str(path), error=str(error))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else map(path.with_name, parts_of(path.name))
    return sum(file.stat().st_size for file in files if file.is_file())
