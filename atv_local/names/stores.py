"""Where `scheme:name` leads: the Hugging Face cache is built in, other stores are plug-ins.

A package registers a store in the entry-point group `atv_local.names`, under its scheme. The entry point names a class
or function that is called without arguments and returns a `NameStore`:

    [project.entry-points."atv_local.names"]
    ollama = "atv_plugins.ollama:OllamaStore"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from atv_local.entry_points import load_plugin, plugin_errors, plugin_names
from atv_local.errors import NotFoundError

GROUP = "atv_local.names"
HUB = "hf"
"""The scheme that is built in."""

Kind = Literal["model", "bundle"]
KINDS: tuple[Kind, ...] = ("model", "bundle")


@dataclass(frozen=True)
class ListedName:
    """A name in a store, without the scheme, and the quantisation where the store knows it, such as `Q4_K_M`."""

    name: str
    quantisation: str = ""


@runtime_checkable
class NameStore(Protocol):
    """Models or bundles under names of a store's own. Names are given and returned without the scheme.

    Errors are raised as `NotFoundError`, in one sentence that says what to do.
    """

    def resolve(self, name: str, kind: Kind | None, *, offline: bool) -> Path:
        """The first file of a GGUF, or a bundle's folder or zip.

        Args:
            name: what follows the scheme and its colon.
            kind: what is wanted; None takes either.
            offline: nothing may be downloaded.
        """

    def full_name(self, name: str) -> str:
        """The same name in full, such as with its tag; an error for text that no name of this store can be."""

    def names(self) -> Iterable[ListedName]:
        """What is here now and can be resolved offline."""

    def is_available(self) -> bool:
        """Whether the store is present on this machine; one that is not is left out of lists."""


def schemes() -> list[str]:
    """Those that are built in and those of plug-ins."""
    return [HUB, *(name for name in plugin_names(GROUP) if name != HUB)]


def store(scheme: str) -> NameStore:
    """The store of a scheme.

    Raises:
        NotFoundError: no such scheme.
        PluginError: a plug-in that cannot be loaded, or is no `NameStore`.
    """
    if scheme == HUB:
        from atv_local.names.hub import HubStore

        return HubStore()
    if scheme not in schemes():
        known = ", ".join(f"{name}:" for name in schemes())
        raise NotFoundError(f"no installed package provides names that begin with {scheme}:; known are {known}")
    return _PluginStore(scheme)


class _PluginStore:
    """A store of another package: whatever it raises is one error that names it."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        make = load_plugin(GROUP, scheme)
        with plugin_errors(GROUP, scheme):
            self._store = make()
            if not isinstance(self._store, NameStore):
                raise TypeError(f"{self._store!r} lacks a method of NameStore")

    def resolve(self, name: str, kind: Kind | None, *, offline: bool) -> Path:
        with plugin_errors(GROUP, self._scheme):
            path = self._store.resolve(name, kind, offline=offline)
            if not isinstance(path, Path):
                raise TypeError(f"resolve returned {path!r}, which is not a Path")
            return path

    def full_name(self, name: str) -> str:
        with plugin_errors(GROUP, self._scheme):
            return str(self._store.full_name(name))

    def names(self) -> Iterator[ListedName]:
        with plugin_errors(GROUP, self._scheme):
            for listed in self._store.names():
                if not isinstance(listed, ListedName):
                    raise TypeError(f"names gave {listed!r}, which is not a ListedName")
                yield listed

    def is_available(self) -> bool:
        with plugin_errors(GROUP, self._scheme):
            return bool(self._store.is_available())
