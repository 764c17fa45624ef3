"""Long texts: tokenised part by part, with the tokens that llama.cpp gives for the whole."""

from __future__ import annotations

import random

import pytest

from atv_local.errors import PromptError
from atv_local.target.target import Target

_PIECES = ["<s>", "<|im_start|>", "<unk>", "<|im", "_end|>", "<", " ", "\n", "a", "hello ", "é", "中", "\U0001f600"]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("bos", [True, False, None])
def test_the_parts_give_the_tokens_of_the_whole(
    target: Target, monkeypatch: pytest.MonkeyPatch, special: bool, bos: bool | None
) -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices(_PIECES, k=rng.randrange(30))) for _ in range(100)]
    vocabulary = target.vocabulary
    whole = [vocabulary.tokenize(text, special=special, bos=bos) for text in texts]
    spelt = [vocabulary.spells_control(text) for text in texts]
    monkeypatch.setattr("atv_local.target.vocabulary._LONG", 0)
    for text, tokens, spells in zip(texts, whole, spelt, strict=True):
        assert vocabulary.tokenize(text, special=special, bos=bos) == tokens
        assert vocabulary.tokenize(text, special=special, bos=bos, limit=len(tokens)) == tokens, "it is not refused"
        assert vocabulary.spells_control(text) == spells
        if tokens:
            with pytest.raises(PromptError, match=f"{len(tokens) - 1} are allowed"):
                vocabulary.tokenize(text, special=special, bos=bos, limit=len(tokens) - 1)
