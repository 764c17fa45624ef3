"""What a model thinks of tokens: log-probabilities, in nats, of those given and of the likeliest in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atv_local.target.target import Target
from atv_local.vectors import TaskVector


@dataclass(frozen=True)
class Score:
    """One token and what else could have stood there, most likely first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def score(logits: NDArray[np.float32], token: int, n_top: int) -> Score:
    """What the logits float32 [n_vocab] before a token say of it and of the `n_top` likeliest ones."""
    found = logprobs(logits)
    some = np.argpartition(-found, min(n_top, len(found)) - 1)[:n_top] if n_top else np.array([], dtype=np.intp)
    likeliest = sorted(some.tolist(), key=lambda other: (-found[other], other))
    return Score(token, float(found[token]), tuple((other, float(found[other])) for other in likeliest))


def score_text(target: Target, tokens: Sequence[int], n_top: int, vector: TaskVector | None = None) -> Iterator[Score]:
    """A score of every token but the first, which nothing comes before.

    Args:
        vector: steers all of them.

    Raises:
        PromptError: more tokens than the context holds.
        ModelError: logits that are not finite.
    """
    target.prefill()
    try:
        if vector is not None:
            target.apply(vector)
        for logits, token in zip(target.read(tokens[:-1]), tokens[1:], strict=True):
            yield score(logits, token, n_top)
    finally:
        target.clear()


def logprobs(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities, float32, from logits."""
    shifted = logits - logits.max()
    normalised: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    return normalised
