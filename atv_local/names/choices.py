"""Chooses the target and bundle: those that are named, else the defaults that are set, else the embedded ones.

Defaults are set by ATV_MODEL and ATV_BUNDLE, then in the configuration file. An alias for a target and its bundle that
names the target brings its bundle along, unless a bundle is named or set in the same place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from atv_local.errors import BundleError, MismatchError, ModelError, NotFoundError, UsageError
from atv_local.names.default_names import config_file, read_config
from atv_local.names.forms import DEFAULT, DEMO, exists
from atv_local.names.lookup import check_kind, find_alias, look_up
from atv_local.names.stores import Kind
from atv_local.text import shown

VARIABLES: dict[Kind, str] = {"model": "ATV_MODEL", "bundle": "ATV_BUNDLE"}
EMBEDDED = "embedded"


@dataclass(frozen=True)
class Choice:
    """The name of a target or a bundle that is used, and where that was set."""

    kind: Kind
    name: str | Path
    source: str = ""
    """A variable, the path of the configuration file, or EMBEDDED; empty if it was named in the call."""
    here: bool = True
    """Whether what exists in the current folder comes first."""

    @property
    def set_by(self) -> str:
        """The source of a default in words."""
        return "the embedded one" if self.source == EMBEDDED else f"set by {self.source}"

    def path(self, *, offline: bool = False) -> Path:
        """See `lookup.look_up`; what a user set as default has to exist and be of its kind."""
        if self.source in ("", EMBEDDED):
            return look_up(self.name, self.kind, offline=offline, here=self.here)
        try:
            path = look_up(self.name, self.kind, offline=offline, here=self.here)
            check_kind(path, self.kind)
        except (NotFoundError, ModelError, BundleError) as error:
            raise type(error)(f"{error}; it is the default {self.kind}, {self.set_by}") from error
        return path


def choose_model(name: str | Path | None = None) -> Choice:
    """The target to use.

    Raises:
        UsageError: an empty name; or nothing is named, and the configuration file is not valid.
    """
    return next(model for model, _ in _levels(name, None) if model)


def choose_bundle(name: str | Path | None = None, model: str | Path | None = None) -> Choice:
    """The bundle to use with the target that `model` names.

    Raises:
        UsageError: as for `choose_model`.
        NotFoundError: the aliases cannot be read.
    """
    target = None
    for chosen, bundle in _levels(model, name):
        if bundle:
            return bundle
        if chosen and target is None:
            target = chosen
            if _is_pair(target):
                return replace(target, kind="bundle")
    raise AssertionError("the last level names both")


def choose_bundles(
    names: str | Path | Sequence[str | Path] | None = None, model: str | Path | None = None
) -> list[Choice]:
    """The bundles to use with the target that `model` names: those that are named, or else the default one.

    Raises:
        UsageError, NotFoundError: as for `choose_bundle`.
    """
    return [choose_bundle(name, model) for name in as_names(names)] or [choose_bundle(None, model)]


def as_names(names: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    """Names as a list, of one or several, or none.

    Raises:
        UsageError: something that is not a list of names.
    """
    if names is None:
        return []
    if isinstance(names, str | os.PathLike):
        return [names]
    if not isinstance(names, list | tuple) or not names:
        raise UsageError(f"`bundle` {shown(names)} is not a path, nor a list of paths or names")
    return list(names)


def split_names(text: str) -> list[str]:
    """The names in one text, with commas between; what exists as a file or folder is one name.

    Raises:
        UsageError: nothing before or after a comma.
    """
    names = [text] if exists(text) else [name.strip() for name in text.split(",")]
    if len(names) > 1 and not all(names):
        raise UsageError(f"{shown(text)} has an empty name beside a comma; leave the comma out")
    return names


@contextmanager
def explain_defaults(model: Choice | None, bundle: Choice | None) -> Iterator[None]:
    """Add to an error from opening one of the two, or both, which was a default, and where that is set."""
    try:
        yield
    except (ModelError, BundleError) as error:
        concerned = (
            (model, bundle)
            if isinstance(error, MismatchError)
            else (bundle if isinstance(error, BundleError) else model,)
        )
        defaults = [choice for choice in concerned if choice and choice.source]
        if not defaults:
            raise
        origins = " and ".join(f"the {choice.kind} is {choice.set_by}" for choice in defaults)
        raise type(error)(f"{error}; {origins}") from error


def _levels(model: str | Path | None, bundle: str | Path | None) -> Iterator[tuple[Choice | None, Choice | None]]:
    """What is named in the call, in the environment and in the file, and what is embedded; each read when needed."""
    for kind, name in (("model", model), ("bundle", bundle)):
        if name == "":
            raise UsageError(f"the name in `{kind}` is empty; name one, or leave it out for the default")
    yield _choice("model", model), _choice("bundle", bundle)
    yield tuple(_choice(kind, os.environ.get(name), name) for kind, name in VARIABLES.items())  # type: ignore[misc]
    config = read_config()
    file = str(config_file())
    yield tuple(_choice(kind, config.get(kind), file, here=False) for kind in VARIABLES)  # type: ignore[misc]
    yield Choice("model", DEFAULT, EMBEDDED, here=False), Choice("bundle", DEMO, EMBEDDED, here=False)


def _choice(kind: Kind, name: str | Path | None, source: str = "", *, here: bool = True) -> Choice | None:
    return Choice(kind, name, source, here) if name else None


def _is_pair(choice: Choice) -> bool:
    """Whether the name of a target is an alias that also names its bundle."""
    name = choice.name
    if isinstance(name, Path) or (choice.here and exists(name)):
        return False
    alias = find_alias(name)
    return alias is not None and bool(alias.bundle)
