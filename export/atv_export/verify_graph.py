"""Verifying a graph against PyTorch, on queries of every length, alone and in a padded batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atv_local.errors import BundleError, first_line
from atv_local.generator import Fidelity, Precision, open_session
from atv_train.vector_sources import GeneratorModule, position_limit, vocabulary_size

Inputs = dict[str, NDArray[np.int64]]
Vectors = NDArray[np.float32]

FP32_BOUND = 1e-5
"""Largest difference of one value between the float32 graph and PyTorch, relative to the query's largest value."""
MIN_COSINE: dict[Precision, float] = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.99}
MAX_ERROR: dict[Precision, float] = {"fp32": 1e-5, "fp16": 0.01, "int8": 0.1}
"""Bounds at every layer and with every query: see `Fidelity`."""

_BATCH = 8
_WORDS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610)


@dataclass(frozen=True)
class GraphCheck:
    """One graph against PyTorch.

    `layers` is the smallest cosine of each layer, NaN for one that is never steered, followed by those of the prompt
    vectors if there are any; `batch` the largest error of a query in a padded batch.
    """

    fidelity: Fidelity
    layers: list[float]
    largest_difference: float
    batch: float
    lengths: tuple[int, int]


class Probes:
    """Queries, texts of all lengths made of their words, and PyTorch's vectors for them.

    Args:
        generator: the checkpoint's, in evaluation mode.
        tokenizer: the backbone's.
        template: has `{query}` in it.
        max_tokens: longer inputs are truncated, as in the runtime.
        queries: real ones, of the generator's tasks if they are known; their words also make texts of all lengths.
    """

    def __init__(
        self, generator: GeneratorModule, tokenizer: Any, template: str, max_tokens: int, queries: Sequence[str]
    ) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        words = " ".join(queries).split()
        words *= 1 + max_tokens // len(words)
        texts = [*queries, words[0][0], *(" ".join(words[:n]) for n in _WORDS if n < max_tokens), " ".join(words)]
        texts = [template.replace("{query}", text) for text in texts]
        limit = position_limit(generator.backbone)
        if limit is not None and max_tokens > limit:
            raise BundleError(f"the checkpoint reads {max_tokens} tokens of a query, and its backbone {limit}")
        self._inputs = [self._encode([text]) for text in texts]
        largest, known = max(int(one["input_ids"].max()) for one in self._inputs), vocabulary_size(generator.backbone)
        if largest >= known:
            raise BundleError(f"the checkpoint's tokenizer gives token {largest}, and its backbone has {known} tokens")
        self._together = [*range(min(len(queries), _BATCH)), *range(len(queries), len(texts))]  # short beside long
        self._batch = self._encode([texts[index] for index in self._together])
        with torch.no_grad():
            tensors = [{name: torch.from_numpy(ids) for name, ids in one.items()} for one in self._inputs]
            self._expected = [generator(**one)[0].numpy() for one in tensors]
        if not all(np.isfinite(vector).all() for vector in self._expected):
            raise BundleError("the checkpoint gives task vectors that are NaN or infinite")
        norms = [float(np.linalg.norm(vector)) for vector in self._expected]
        self._typical = float(np.median(norms[: len(queries)]))

    def check(self, graph: Path) -> GraphCheck:
        """Run the graph on all of them.

        Raises:
            BundleError: ONNX Runtime cannot run it.
        """
        try:
            session = open_session(graph.read_bytes(), "cpu", 1)  # from bytes, as in the runtime
            actual = [session.run(["task_vector"], one)[0][0] for one in self._inputs]
            together = session.run(["task_vector"], self._batch)[0]
        except Exception as error:  # its exceptions have no common class
            raise BundleError(
                f"ONNX Runtime cannot run the graph of this backbone: {first_line(error)}; train with another one"
            ) from error
        long = [np.linalg.norm(vector) >= self._typical / 2 for vector in self._expected]
        cosines = np.array([_cosines(a, b) for a, b in compress(zip(actual, self._expected, strict=True), long)])
        errors = [self._error(a, b) for a, b in zip(actual, self._expected, strict=True)]
        differences = [
            np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in zip(actual, self._expected, strict=True)
        ]
        steered = ~np.isnan(cosines).all(axis=0)
        layers = np.full(cosines.shape[1], np.nan)
        layers[steered] = np.nanmin(cosines[:, steered], axis=0)
        sizes = [one["input_ids"].shape[1] for one in self._inputs]
        return GraphCheck(
            Fidelity(
                queries=len(actual),
                cosine=float(np.nanmin(layers)) if steered.any() else 1.0,
                error=float(max(errors)),
            ),
            [float(value) for value in layers],
            float(max(differences)),
            float(
                max(self._error(a, self._expected[index]) for a, index in zip(together, self._together, strict=True))
            ),
            (min(sizes), max(sizes)),
        )

    def _error(self, actual: Vectors, expected: Vectors) -> float:
        scale = max(float(np.linalg.norm(expected)), self._typical) or 1.0
        error = float(np.linalg.norm(actual - expected)) / scale
        return error if math.isfinite(error) else math.inf  # a NaN would lose every comparison

    def _encode(self, texts: list[str]) -> Inputs:
        encoded = self._tokenizer(
            texts, truncation=True, max_length=self._max_tokens, padding=len(texts) > 1, return_tensors="np"
        )
        return {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def missed_bound(check: GraphCheck, precision: Precision) -> str:
    """The first bound that a graph does not keep, as a sentence; empty if there is none."""
    cosine, error = check.fidelity.cosine, max(check.fidelity.error, check.batch)
    if not error <= MAX_ERROR[precision]:
        return f"a vector is off by {error:.2g} of its norm, more than {MAX_ERROR[precision]:g}"
    if not cosine >= MIN_COSINE[precision]:
        return f"a layer has cosine {cosine:.5f}, less than {MIN_COSINE[precision]:g}"
    if precision == "fp32" and not check.largest_difference <= FP32_BOUND:
        return f"a value is off by {check.largest_difference:.2g}, more than {FP32_BOUND:g}"
    return ""


def require_bounds(check: GraphCheck, precision: Precision) -> None:
    """Raise BundleError if the graph does not keep its bounds."""
    if problem := missed_bound(check, precision):
        way_out = "" if precision == "fp32" else f"; leave {precision} out of `precisions`"
        raise BundleError(f"the {precision} graph differs from PyTorch: {problem}; nothing was written{way_out}")


def _cosines(actual: Vectors, expected: Vectors) -> NDArray[np.float64]:
    """Cosine of each layer; NaN if the expected row is zero, 0 if only the actual one is not finite."""
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    steered = np.linalg.norm(b, axis=-1) > 0
    cosines = np.where(norms > 0, (a * b).sum(axis=-1) / np.where(norms > 0, norms, 1.0), 0.0)
    return np.where(steered, np.nan_to_num(cosines, nan=0.0), np.nan)
