"""The models and bundles that can be named right now. Reads names, sizes and manifests; opens no model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from atv_local.data import files_of, reading
from atv_local.errors import AtvError, NotFoundError
from atv_local.generator import read_manifest
from atv_local.names.aliases import aliases_file, read_aliases
from atv_local.names.choices import Choice, choose_bundle, choose_model
from atv_local.names.default_names import config_file
from atv_local.names.embedded import embedded_bundle, embedded_model
from atv_local.names.forms import DEFAULT, DEMO, GENERAL
from atv_local.names.gguf_names import quantisation_of
from atv_local.names.lookup import look_up
from atv_local.names.schemes import schemes, store
from atv_local.names.stores import KINDS, Kind
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
    """The quantisation of a model, if its file's name or the store says it."""
    fits: str = ""
    """The name of the target that a bundle was made for."""
    default: str = ""
    """What makes it the default: a variable, the configuration file, or EMBEDDED; empty for any other."""
    error: str = ""


def list_names() -> list[Entry]:
    """The embedded pair, aliases, what the stores have on this machine, and the defaults, whatever they are."""
    entries = [*_embedded(), *_aliases(), *_stored()]
    for choose in (choose_bundle, choose_model):
        try:
            choice = choose()
        except AtvError as error:
            entries.insert(0, Entry("(config)", path=str(config_file()), error=str(error)))
        else:
            _mark_default(entries, choice)
    return list(dict.fromkeys(entries))


def _embedded() -> Iterator[Entry]:
    yield _named(DEFAULT, embedded_model)
    for name in (DEMO, GENERAL):
        yield _named(name, partial(embedded_bundle, name))


def _aliases() -> Iterator[Entry]:
    try:
        for name, alias in sorted(read_aliases().items()):
            kinds: Iterable[Kind | None] = KINDS if not alias.either else [None]
            for kind in kinds:
                if alias.get(kind):
                    yield _named(name, partial(look_up, name, kind, offline=True, here=False))
    except AtvError as error:
        yield Entry("(aliases)", path=str(aliases_file()), error=str(error))


def _stored() -> Iterator[Entry]:
    for scheme in schemes():
        try:
            if (place := store(scheme)).is_available():
                for listed in place.names():
                    find = partial(place.resolve, listed.name, None, offline=True)
                    yield _named(f"{scheme}:{listed.name}", find, listed.quantisation)
        except AtvError as error:
            yield Entry(f"{scheme}:", error=str(error))


def _mark_default(entries: list[Entry], choice: Choice) -> None:
    """Say at its entry that a name is used by default; a name that has none, such as a path, gets one."""
    name = str(choice.name)
    for index, entry in enumerate(entries):
        if entry.name == name and entry.kind in (choice.kind, ""):
            entries[index] = replace(entry, default=choice.source)
            return
    entries.insert(0, replace(_named(name, partial(choice.path, offline=True)), default=choice.source))


def _named(name: str, find: Callable[[], Path], quantisation: str = "") -> Entry:
    try:
        with warnings.catch_warnings(action="ignore"):  # they are about answers
            path = find()
        return _entry(name, path, quantisation)
    except AtvError as error:
        return Entry(name, error=str(error))


def _entry(name: str, path: Path, quantisation: str = "") -> Entry:
    try:
        with reading(path, NotFoundError):
            path.stat()
        if path.is_dir() or path.suffix.lower() == ".zip":
            return Entry(name, "bundle", str(path), _size(path), fits=read_manifest(path)[0].target.name)
        check_gguf(path)
        return Entry(name, "model", str(path), _size(path), quantisation or quantisation_of(path.name))
    except (AtvError, OSError) as error:
        return Entry(name, path=str(path), error=str(error))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else files_of(path)
    return sum(file.stat().st_size for file in files if file.is_file())
