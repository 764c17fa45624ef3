"""Resolves the name of a model or a bundle to its path, with the defaults that are set."""

from __future__ import annotations

from pathlib import Path

from atv_local.names.choices import choose_bundle, choose_model
from atv_local.names.embedded import is_embedded_bundle
from atv_local.names.forms import exists
from atv_local.names.lookup import PATH, check_kind, expand, find_alias, look_up
from atv_local.names.schemes import HUB
from atv_local.names.stores import KINDS, Kind


def resolve_model(name: str | Path | None = None, *, offline: bool = False) -> Path:
    """The GGUF that a name stands for. A `Path` is itself; whether it is missing is for its reader to say.

    A name is a path, `hf:user/repo[:quant]`, another store's `scheme:name`, an alias, or `default`, the embedded model.
    What exists as a file or folder is always that file or folder.

    Args:
        name: by default what `choose_model` chooses.
        offline: download nothing; so does HF_HUB_OFFLINE. What is in the cache is never looked for on the hub.

    Raises:
        NotFoundError: a name that leads to no model.
        ModelError: the embedded model is meant and not installed.
        UsageError: a configuration file that is not valid.
    """
    return choose_model(name).path(offline=offline)


def resolve_bundle(name: str | Path | None = None, *, model: str | Path | None = None, offline: bool = False) -> Path:
    """The bundle, a folder or a zip, that a name stands for; `demo` is the embedded one. See `resolve_model`.

    Args:
        name: by default what `choose_bundle` chooses.
        model: the name of the target, which may be an alias for a target and its bundle.
        offline: download nothing.
    """
    return choose_bundle(name, model).path(offline=offline)


def resolve_name(name: str | Path, *, offline: bool = False) -> Path:
    """The model or bundle that a name stands for; of a repository or an alias that has both, the bundle."""
    return look_up(name, None, offline=offline)


def pull_name(name: str, *, offline: bool = False) -> list[Path]:
    """The model or bundle that a name stands for, or both of an alias; brought up to date from the hub, unless offline.

    Raises:
        NotFoundError: also for a path that does not exist.
    """
    alias = None if exists(name) else find_alias(name)
    kinds: list[Kind | None] = [None]
    if alias and not alias.either:
        kinds = [kind for kind in KINDS if alias.get(kind)]
    return [_pull(name, kind, offline=offline) for kind in kinds]


def check_bundle_name(name: str | Path) -> None:
    """Check that a name can stand for a bundle, without opening its graph. A name in a store is not looked up there.

    Raises:
        NotFoundError: a name that leads to no bundle.
        BundleError: a path at which there is no bundle.
    """
    chosen = choose_bundle(name).name
    scheme, rest = (PATH, chosen) if isinstance(chosen, Path) else expand(chosen, "bundle")
    if scheme == PATH:
        check_kind(Path(rest), "bundle")


def is_managed(name: str | Path) -> bool:
    """Whether the bundle of a name is in another program's cache or in this installation, and is not to be changed."""
    scheme, rest = (PATH, str(name)) if isinstance(name, Path) else expand(name, "bundle")
    if scheme != PATH:
        return True
    from atv_local.names.hub import is_cached

    path = Path(rest)
    return is_cached(path) or is_embedded_bundle(path)


def _pull(name: str, kind: Kind | None, *, offline: bool) -> Path:
    scheme, rest = expand(name, kind)
    if scheme == HUB and not offline:
        from atv_local.names.hub import HubName, is_offline

        if not is_offline():
            from atv_local.names.hub_download import download

            return download(HubName.parse(rest), kind)
    return look_up(name, kind, offline=offline)
