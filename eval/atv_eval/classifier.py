"""Labels without the target: logistic regression over the state of the generator's backbone, or over its vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from atv_eval.demonstrations import balanced
from atv_local.answer import Engine
from atv_local.data import Row

MAX_ROWS = 1000
"""Rows that it learns from: a vector takes milliseconds, and more rows change little."""
_MAX_COMPONENTS = 256


def fit_classifier(engine: Engine, pool: Sequence[Row], seed: int) -> Callable[[str], str]:
    """From a query to a label.

    Features are the first principal components of the backbone's pooled state, which the vector is made from, or, where
    the bundle does not give it, of all layers of the vector.

    Args:
        engine: with a generator.
        pool: rows with labels, at most `MAX_ROWS` of which are read, with every label as often as there are rows.
        seed: chooses them.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = balanced(pool, MAX_ROWS, seed)
    vectors = _features(engine, [row.input for row in rows])
    labels = [row.output for row in rows]
    if len(set(labels)) == 1:
        return lambda _: labels[0]
    n_components = min(_MAX_COMPONENTS, *vectors.shape)
    model = make_pipeline(
        StandardScaler(), PCA(n_components, random_state=seed), LogisticRegression(C=0.01, max_iter=1000)
    )
    model.fit(vectors, labels)
    return lambda query: str(model.predict(_features(engine, [query]))[0])


def classifier_features(engine: Engine) -> str:
    """What it reads with this bundle."""
    return "task vectors" if _pooled(engine, "a query") is None else "pooled states of the backbone"


def _features(engine: Engine, queries: Sequence[str]) -> NDArray[np.float32]:
    """[queries, d_s] or [queries, layers * n_embd]."""
    states = [_pooled(engine, query) for query in queries]
    return np.stack(
        [
            engine.vector(query).array.ravel() if state is None else state
            for query, state in zip(queries, states, strict=True)
        ]
    )


def _pooled(engine: Engine, query: str) -> NDArray[np.float32] | None:
    return engine.generator.pooled(query) if engine.generator else None
