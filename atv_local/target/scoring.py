"""Log-probabilities, in nats, of given tokens and of the most likely alternatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atv_local.target.logits import logprobs
from atv_local.target.prompt import shared_length
from atv_local.target.target import Target
from atv_local.vectors import TaskVector


@dataclass(frozen=True)
class Score:
    """The log-probability of a token, and the most likely tokens in its place with theirs, the most likely first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def score(logits: NDArray[np.float32], token: int, n_top: int) -> Score:
    """Score a token.

    Args:
        logits: float32 [n_vocab], before the token.
        token: its id.
        n_top: how many of the most likely tokens to list.
    """
    found = logprobs(logits)
    some = np.argpartition(-found, min(n_top, len(found)) - 1)[:n_top] if n_top else np.array([], dtype=np.intp)
    likeliest = sorted(some.tolist(), key=lambda other: (-found[other], other))
    return Score(token, float(found[token]), tuple((other, float(found[other])) for other in likeliest))


def score_options(target: Target, options: Sequence[Sequence[int]]) -> list[float]:
    """The log-probability in nats of each option after the token that the target has evaluated last.

    What options have in common is evaluated once.

    Args:
        target: after a prompt, under the vector that is applied.
        options: tokens, with the one that ends an answer.

    Raises:
        PromptError: an option that does not fit the context.
        ModelError: logits that are not finite, or a recurrent architecture.
    """
    start, done = target.n_past, list[int]()
    before = [logprobs(target.logits())]
    """The log-probabilities [n_vocab] before each token of an option."""
    totals = [0.0] * len(options)
    for index in sorted(range(len(options)), key=lambda index: tuple(options[index])):
        *tokens, _ = option = list(options[index])
        common = shared_length(done, tokens)
        if common < len(tokens):
            if common < len(done):
                target.rewind(start + common)
            del done[common:], before[common + 1 :]
            before += [logprobs(logits) for logits in target.read(tokens[common:])]
            done = tokens
        totals[index] = sum(float(rows[token]) for rows, token in zip(before, option, strict=False))
    return totals


def score_text(target: Target, tokens: Sequence[int], n_top: int, vector: TaskVector | None = None) -> Iterator[Score]:
    """Score every token of a text except the first.

    Args:
        target: evaluates the text from an empty cache.
        tokens: the text.
        n_top: how many of the most likely tokens to list for each.
        vector: steers all of them.

    Raises:
        PromptError: more tokens than the context holds.
        ModelError: logits that are not finite.
        UsageError: an id that is not a token of the target, or another answer that is unfinished.
    """
    target.vocabulary.check(tokens)
    with target.turn() as turn:
        try:
            target.prefill()
            if vector is not None:
                target.apply(vector)
            for logits, token in zip(target.read(tokens[:-1]), tokens[1:], strict=True):
                found = score(logits, token, n_top)
                turn.pause()
                yield found
                turn.resume()
        finally:
            turn.resume()
            target.clear()
