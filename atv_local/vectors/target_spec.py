"""The properties of a target that a task vector depends on. Bounded, since untrusted files contain them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

BoundedText = Annotated[str, Field(max_length=4096)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TargetSpec(BaseModel):
    """The target the generator was trained through. Another one must agree on everything but name and licence."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    architecture: BoundedText
    n_layer: int = Field(ge=2, le=4096)
    n_embd: int = Field(ge=1, le=1 << 20)
    vocabulary_sha256: Sha256
    name: BoundedText = ""
    licence: BoundedText = ""

    def mismatch(self, found: TargetSpec) -> str:
        """The first thing in which `found` differs so that vectors for this target do not fit it; empty if none."""
        for what in ("architecture", "n_layer", "n_embd", "vocabulary_sha256"):
            wanted, has = getattr(self, what), getattr(found, what)
            if wanted != has:
                return f"made for {self.name!r} with {what} {wanted!r}, but {found.name!r} has {has!r}"
        return ""
