"""A control vector with the factor that an answer uses it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atv_local.data import as_number

if TYPE_CHECKING:
    from atv_local.vectors.control_vector import ControlVector

MAX_STRENGTH = 1000.0
"""The largest factor on a vector, whether of one control vector or of all that steers."""


@dataclass(frozen=True)
class ScaledVector:
    """A control vector times a factor. `scaled_vectors` makes them of files.

    Attributes:
        vector: as it was made.
        scale: the factor, within 1000.
        name: what records call it; by default the name of its file.

    Raises:
        UsageError: a factor beyond 1000.
    """

    vector: ControlVector
    scale: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", as_number("scale", self.scale, -MAX_STRENGTH, MAX_STRENGTH))
        object.__setattr__(self, "name", self.name or self.vector.name)

    def as_dict(self) -> dict[str, Any]:
        """The vector as records have it: name, the first 12 digits of its SHA-256, and the factor."""
        return {"name": self.name, "sha256": self.vector.sha256[:12], "scale": self.scale}

    def __str__(self) -> str:
        return f"{self.name}:{self.scale:g}"
