"""Answers of PyTorch as text."""

from __future__ import annotations

from collections.abc import Sequence

from atv_local.target import Vocabulary


def end_tokens(vocabulary: Vocabulary) -> list[int]:
    """All tokens that end an answer."""
    return [token for token in range(vocabulary.n_tokens) if vocabulary.ends(token)]


def answer_text(tokens: Sequence[int], vocabulary: Vocabulary) -> str:
    """An answer up to the token that ends it."""
    end = next((place for place, token in enumerate(tokens) if vocabulary.ends(token)), len(tokens))
    return vocabulary.text(tokens[:end], special=False)
