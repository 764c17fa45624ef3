"""The methods that an evaluation compares. It imports nothing heavy, for the command line."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """Ways to an answer.

    The target answers the bare query (`base`, and `steered` by its own vector or by a `static` one, the mean of its
    task's), the query after an instruction (`zero-shot`), or after the instruction and rows of a pool: the same for
    every query (`k-shot`), or those most like it (`bm25`). Without the target, the answer is the output of the row most
    like the query (`nearest`), or of a `classifier` that reads the query's vector.
    """

    BASE = "base"
    STEERED = "steered"
    ZERO_SHOT = "zero-shot"
    SHOTS = "k-shot"
    BM25 = "bm25"
    NEAREST = "nearest"
    STATIC = "static"
    CLASSIFIER = "classifier"

    @property
    def bare(self) -> bool:
        """Whether the target reads the query alone."""
        return self in (Method.BASE, Method.STEERED, Method.STATIC)

    @property
    def shows(self) -> bool:
        """Whether the prompt has rows of the pool."""
        return self in (Method.SHOTS, Method.BM25)

    @property
    def takes_instruction(self) -> bool:
        """Whether its prompt begins with an instruction."""
        return self.shows or self is Method.ZERO_SHOT

    @property
    def may_take_instruction(self) -> bool:
        """Whether its prompt begins with an instruction for every bundle, or for one that was trained so."""
        return self.takes_instruction or self in (Method.STEERED, Method.STATIC)

    @property
    def asks_target(self) -> bool:
        """Whether the target writes the answer."""
        return self not in (Method.NEAREST, Method.CLASSIFIER)

    @property
    def needs_pool(self) -> bool:
        """Whether it takes rows of a pool."""
        return self not in (Method.BASE, Method.STEERED, Method.ZERO_SHOT)

    @property
    def needs_bundle(self) -> bool:
        """Whether it reads vectors of queries."""
        return self in (Method.STEERED, Method.STATIC, Method.CLASSIFIER)
