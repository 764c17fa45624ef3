"""Names among the models of a server that are no bundle's."""

from __future__ import annotations

from collections.abc import Collection

from atv_local.errors import UsageError

BASE = "base"
"""The name of the unsteered target."""
AUTO = "auto"
"""The name of all bundles together, of which each query has the one that it fits best."""


def check_bundle_ids(ids: Collection[str]) -> None:
    """Raise UsageError if a bundle has the name of another model."""
    if BASE in ids:
        raise UsageError(f"a bundle cannot be named {BASE!r}: that is the model without steering")
    if AUTO in ids and len(ids) > 1:
        raise UsageError(
            f"of several bundles none can be named {AUTO!r}: that is the model that chooses among them; name it with "
            "ID=NAME"
        )
