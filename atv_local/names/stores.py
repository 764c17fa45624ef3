"""What a store of names is. The Hugging Face cache is built in, other stores are plug-ins (`schemes`).

A package registers a store in the entry-point group `atv_local.names`, under its scheme. The entry point names a class
or function that is called without arguments and returns a `NameStore`:

    [project.entry-points."atv_local.names"]
    ollama = "atv_plugins.ollama:OllamaStore"
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

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
