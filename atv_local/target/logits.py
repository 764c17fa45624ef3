"""Log-probabilities from logits, and how far two of them are apart. Only NumPy."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)


def logprobs(logits: NDArray[_Float]) -> NDArray[_Float]:
    """Log-softmax of logits [n_vocab], in nats and of the same type."""
    shifted = logits - logits.max()
    normalised: NDArray[_Float] = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(logits.dtype)
    return normalised


def kl_divergence(base: NDArray[_Float], other: NDArray[_Float]) -> NDArray[np.float64]:
    """KL(base || other) in nats over the last axis.

    Args:
        base: log-probabilities [..., n_vocab].
        other: log-probabilities of the same shape.

    Returns:
        float64 [...], never below zero.
    """
    shares = np.exp(base, dtype=np.float64)
    sums: NDArray[np.float64] = (shares * (base.astype(np.float64) - other)).sum(axis=-1)
    return np.maximum(sums, 0)
