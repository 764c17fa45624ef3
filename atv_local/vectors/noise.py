"""Noise in the place of a task vector: what a model does under it shows what steering does by mere size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from atv_local.vectors.task_vector import TaskVector

_DEVIATION = 0.1
"""Moves a model and does not break it, which takes some hundred times as much."""


def random_vector(
    n_rows: int, n_embd: int, *, seed: int | np.random.Generator = 0, norms: ArrayLike | None = None
) -> TaskVector:
    """A vector of Gaussian noise, the same in every call with the same seed.

    Args:
        n_rows: number of steerable layers, n_layer-1.
        n_embd: width of the hidden state.
        seed: of the noise, or a generator to draw from.
        norms: Euclidean norm at each layer, [n_layer-1]; by default the values have a standard deviation of 0.1.
    """
    noise = np.random.default_rng(seed).standard_normal((n_rows, n_embd))
    if norms is None:
        return TaskVector(_DEVIATION * noise)
    return TaskVector(noise * (np.asarray(norms) / np.linalg.norm(noise, axis=1))[:, None])


def probe_vector(n_rows: int, n_embd: int) -> TaskVector:
    """A vector that moves the logits of every model that can be steered.

    Its values have a standard deviation of 1. They are random since LayerNorm subtracts what all values have in common.
    """
    return random_vector(n_rows, n_embd, norms=np.full(n_rows, n_embd**0.5))
