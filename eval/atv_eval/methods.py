"""The methods that an evaluation compares. It imports nothing heavy, for the command line."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """Ways to an answer. The last two show rows of a pool: the same for every query, or those most like it."""

    BASE = "base"
    STEERED = "steered"
    SHOTS = "k-shot"
    BM25 = "bm25"
