"""Plug-ins: objects that installed packages register under a name in one of this program's entry-point groups.

Which packages register what is looked up when it is asked for, not at import.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from atv_local.errors import AtvError, PluginError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints


def plugin_names(group: str) -> list[str]:
    """The names that are registered in a group, sorted."""
    return sorted(_entries(group).names)


def load_plugin(group: str, name: str) -> Any:
    """What an entry point names, imported.

    Raises:
        PluginError: it cannot be imported, or several packages register the name.
        UsageError: a package that it imports is not installed.
    """
    with plugin_errors(group, name):
        entry = _entry_point(group, name)
        try:
            return entry.load()
        except ModuleNotFoundError as error:
            raise UsageError(f"{name} needs the package {error.name}; install it{_with_pip(entry)}") from error


@contextmanager
def plugin_errors(group: str, name: str) -> Iterator[None]:
    """Turn any exception of a plug-in's own into a PluginError that names the plug-in and its package."""
    try:
        yield
    except AtvError:
        raise
    except Exception as error:
        packages = " and ".join(_package(entry) for entry in _entries(group).select(name=name))
        lines = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise PluginError(f"the plug-in {name!r} of {packages} for {group} failed: {what}") from error


def _entries(group: str) -> EntryPoints:
    from importlib.metadata import entry_points  # few commands need it, and it is slow to import

    return entry_points(group=group)


def _entry_point(group: str, name: str) -> EntryPoint:
    first, *others = _entries(group).select(name=name)
    if others:
        packages = " and ".join(map(_package, (first, *others)))
        raise PluginError(f"{packages} both register {name!r} for {group}; uninstall one of them")
    return first


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"


def _with_pip(entry: EntryPoint) -> str:
    """How to install what a plug-in needs, where its package has an extra of the same name."""
    extras = entry.dist.metadata.get_all("Provides-Extra") or [] if entry.dist else []
    return f" with: pip install '{entry.dist.name}[{entry.name}]'" if entry.dist and entry.name in extras else ""
