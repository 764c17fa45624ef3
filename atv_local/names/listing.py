"""The models and bundles that can be named right now. Reads names, sizes and manifests; opens no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atv_local.errors import AtvError
from atv_local.generator import read_manifest
from atv_local.names import hub
from atv_local.names.aliases import aliases_file, read_aliases
from atv_local.names.embedded import embedded_bundle, embedded_model
from atv_local.names.resolve import resolve_name
from atv_local.target import check_gguf
from atv_plugins import ollama


@dataclass(frozen=True)
class Entry:
    """One name and where it leads. `kind` is model or bundle; of a name that leads nowhere `error` says why."""

    name: str
    kind: str = ""
    path: str = ""
    size: int = 0
    """Bytes of all its files."""
    quantisation: str = ""
    """Of a model, where its file's name or Ollama says it."""
    fits: str = ""
    """Of a bundle: the name of the target it was made for."""
    error: str = ""


def list_names() -> Iterator[Entry]:
    """The embedded defaults, aliases, what is in the cache of huggingface_hub, and Ollama's."""
    for default in (embedded_model, embedded_bundle):
        try:
            yield _entry("(default)", default())
        except AtvError as error:
            yield Entry("(default)", error=str(error))
    try:
        for name in sorted(read_aliases()):
            yield _named(name)
    except AtvError as error:
        yield Entry("(aliases)", path=str(aliases_file()), error=str(error))
    for fetched, _, path in hub.cached():
        yield _entry(str(fetched), path)
    for folder in ollama.folders():
        try:
            for pulled in ollama.names(folder):
                yield _named(str(pulled), ollama.quantisation(pulled))
        except AtvError as error:
            yield Entry("ollama:", path=str(folder), error=str(error))


def _named(name: str, quantisation: str = "") -> Entry:
    try:
        return _entry(name, resolve_name(name, offline=True), quantisation)
    except AtvError as error:
        return Entry(name, error=str(error))


def _entry(name: str, path: Path, quantisation: str = "") -> Entry:
    try:
        if path.is_dir() or path.suffix.lower() == ".zip":
            return Entry(name, "bundle", str(path), _size(path), fits=read_manifest(path)[0].target.name)
        check_gguf(path)
        return Entry(name, "model", str(path), _size(path), quantisation or hub.quantisation(path.name))
    except (AtvError, OSError) as error:
        return Entry(name, path=str(path), error=str(error))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else map(path.with_name, hub.parts_of(path.name))
    return sum(file.stat().st_size for file in files if file.is_file())
