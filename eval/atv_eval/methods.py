"""What an evaluation compares. Light, so that the command line can name it."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """Ways to an answer. The last two show rows of a pool: the same for every query, or those most like it."""

    BASE = "base"
    STEERED = "steered"
    SHOTS = "k-shot"
    BM25 = "bm25"
