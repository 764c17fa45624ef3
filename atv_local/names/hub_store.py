"""The built-in store of names: the cache of the Hugging Face Hub, and downloads into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants

from atv_local.errors import NotFoundError
from atv_local.names.hub import HubName, cached_names, find, is_offline, no_model, other_ggufs
from atv_local.names.stores import Kind, ListedName
from atv_local.text import some_of


class HubStore:
    """The `NameStore` of the scheme `hf`."""

    def full_name(self, name: str) -> str:
        """See `NameStore`."""
        return HubName.parse(name).text

    def resolve(self, name: str, kind: Kind | None, *, offline: bool) -> Path:
        """The first file of a GGUF, or a bundle's folder: from the cache, or else downloaded.

        Without a kind it is the bundle, if the repository is one and no quantisation is named.

        Raises:
            NotFoundError: not in the cache and offline, or what `hub_download.download` raises.
        """
        parsed = HubName.parse(name)
        if cached := find(parsed, kind):
            return cached
        if offline or is_offline():
            if others := other_ggufs(parsed):
                raise no_model(parsed, others)
            cached_here = [f"hf:{entry.name}" for entry in cached_names(parsed.repo)]
            others_here = f" (of this repository it has {some_of(cached_here)})" if cached_here else ""
            raise NotFoundError(
                f"{parsed} is not in the cache of {constants.HF_HUB_CACHE}{others_here}, and nothing is downloaded "
                f"offline; where there is a network, get it with `atv_local.names.pull_name('{parsed}')`"
            )
        from atv_local.names.hub_download import download

        return download(parsed, kind)

    def names(self) -> Iterator[ListedName]:
        """Every GGUF and bundle in the cache."""
        return cached_names()

    def is_available(self) -> bool:
        """See `NameStore`."""
        return True
