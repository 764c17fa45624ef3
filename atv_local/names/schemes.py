"""The store of each scheme: that of Hugging Face, which is built in, and those of plug-ins (see `stores`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from atv_local.entry_points import load_plugin, plugin_errors, plugin_names
from atv_local.errors import NotFoundError
from atv_local.names.stores import Kind, ListedName, NameStore

GROUP = "atv_local.names"
HUB = "hf"
"""The scheme that is built in."""


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
        from atv_local.names.hub_store import HubStore

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
