"""Griffe extension for mkdocs.yml: the names in a package's `__init__.pyi` are its public members.

The packages import them lazily from these stubs, so there is no `__all__` that Griffe could read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe


class Doors(griffe.Extension):
    """Sets the exports of every package to what it imports from its own modules."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called when a package and its stubs are loaded."""
        for package in _packages(pkg):
            package.exports = [
                name
                for name, member in package.members.items()
                if member.is_alias and member.target_path.startswith(f"{pkg.path}.")  # type: ignore[union-attr]
            ]


def _packages(package: griffe.Module) -> Iterator[griffe.Module]:
    yield package
    for module in package.modules.values():
        if not module.is_alias and module.is_subpackage:
            yield from _packages(module)
