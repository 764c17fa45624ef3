"""Names of models and bundles that a shell completes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from atv_local.errors import AtvError

if TYPE_CHECKING:
    from atv_local.names import Kind


def complete_model(incomplete: str) -> list[str]:
    """Names of models that begin with `incomplete`; where there are none, the shell completes files."""
    return _complete(incomplete, "model", "default")


def complete_bundle(incomplete: str) -> list[str]:
    """Names of bundles; see `complete_model`."""
    return _complete(incomplete, "bundle", "demo")


def complete_name(incomplete: str) -> list[str]:
    """Names of models and bundles; see `complete_model`."""
    return _complete(incomplete, None, "default", "demo")


def complete_alias(incomplete: str) -> list[str]:
    """Aliases; see `complete_model`."""
    return _complete(incomplete, None)


def complete_gate(incomplete: str) -> list[str]:
    """Names of gates that begin with `incomplete`."""
    return [name for name in ("auto", "off") if name.startswith(incomplete)]


def _complete(incomplete: str, kind: Kind | None, *embedded: str) -> list[str]:
    from atv_local.names import read_aliases

    names = list(embedded) if incomplete else []  # else files would never be completed
    with contextlib.suppress(AtvError):
        names += [name for name, alias in read_aliases().items() if alias.get(kind)]
    return [name for name in names if name.startswith(incomplete)]


NAME: dict[str, Any] = {"metavar": "NAME", "autocompletion": complete_name}
"""Settings of an option or argument that takes the name of a model or bundle."""
MODEL_NAME: dict[str, Any] = {"metavar": "NAME", "autocompletion": complete_model}
BUNDLE_NAME: dict[str, Any] = {"metavar": "NAME", "autocompletion": complete_bundle}
