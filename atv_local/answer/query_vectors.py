"""Where the vectors of answers come from: a generator, control vectors, or a vector given with the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from numpy.typing import ArrayLike

from atv_local.data import as_path
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import Target
from atv_local.vectors import (
    OFF,
    ControlVector,
    ScaledVector,
    Steering,
    TaskVector,
    VectorSources,
    mean_control_vector,
    read_control_vector,
    scaled_vectors,
    sum_control_vectors,
    trained_positions,
)


class QueryVectors:
    """The vectors for one target, and how they steer by default.

    Args:
        target: what they steer.
        generator: reads each query and makes its vector.
        control_vectors: added to the vector of every query, or used alone, unless a steering has others.

    Raises:
        BundleError: a generator made for another target.
        VectorError: a control vector made for another target.
        UsageError: something else than a `Target`, `Generator` or control vectors, or a target that is closed.
    """

    def __init__(self, target: Target, generator: Generator | None, control_vectors: VectorSources = ()) -> None:
        if not isinstance(target, Target):
            raise UsageError(f"`target` {target!r} is not a Target; load files with atv_local.load")
        target.check_open()
        if not isinstance(generator, Generator | None):
            raise UsageError(f"`generator` {generator!r} is not a Generator; load files with atv_local.load")
        self.target, self.generator = target, generator
        self.control_vectors = scaled_vectors(control_vectors)
        self._sum = lru_cache(maxsize=8)(lambda vectors: _checked_sum(vectors, target))
        self._sum(self.control_vectors)  # one that does not fit raises now
        if generator is not None:
            generator.bundle.check_target(target.spec)

    def default_steering(self) -> Steering:
        """That of the bundle; that of the control vectors without one; else off."""
        vectors = self.control_vectors
        if self.generator is None:
            return Steering(positions=trained_positions(vectors)) if vectors else OFF
        return replace(self.generator.steering, layers=None) if vectors else self.generator.steering

    def with_control_vectors(self, steering: Steering, vectors: tuple[ScaledVector, ...]) -> Steering:
        """A steering with these control vectors.

        Layers that are the bundle's default hold for the generator's vector alone, beside control vectors. Where
        nothing steered before, these steer all layers, at the positions that they were made for. Where nothing is left
        to steer by, the steering is off.
        """
        if self.generator is None:
            if not vectors:
                steering = OFF
            elif steering.off and not self.applied_control_vectors(steering):
                steering = Steering(positions=trained_positions(vectors))
        else:
            own = self.generator.steering.layers
            if vectors and steering.layers == own:
                steering = replace(steering, layers=None)
            elif not vectors and steering.layers is None:
                steering = replace(steering, layers=own)
        return replace(steering, control_vectors=vectors)

    def applied_control_vectors(self, steering: Steering) -> tuple[ScaledVector, ...]:
        """The control vectors of a steering, or those of the engine where it does not say."""
        return self.control_vectors if steering.control_vectors is None else steering.control_vectors

    def check(self, steering: Steering) -> None:
        """Raise UsageError if there is nothing to steer by, and VectorError for a control vector of another target."""
        vectors = self.applied_control_vectors(steering)
        if self.generator is None and not vectors:
            raise UsageError("no generator is loaded, so the target cannot be steered; name one with `bundle=...`")
        self._sum(vectors)

    def __call__(self, query: str, steering: Steering) -> TaskVector:
        """The vector for a query, float32 [n_layer-1, n_embd], control vectors added; `steering.apply` takes it.

        Raises:
            UsageError, VectorError: as `check`.
        """
        self.check(steering)
        vectors = self.applied_control_vectors(steering)
        if self.generator is None:
            return self._sum(vectors)
        vector = self.generator(query)
        if not vectors:
            return vector
        layers = self.generator.steering.layers
        return (vector.only(*layers) if layers else vector) + self._sum(vectors)

    def control_vector(self, queries: Sequence[str], steering: Steering) -> ControlVector:
        """The mean over queries, with strength and layers applied; it names the bundle that alone made it."""
        if self.generator is not None and not self.applied_control_vectors(steering):
            return self.generator.control_vector(queries, steering=steering)
        return mean_control_vector(lambda query: self(query, steering), queries, steering, self.target.spec)

    def given(self, vector: ControlVector | TaskVector | ArrayLike | str | Path) -> tuple[TaskVector, Steering]:
        """A vector given with a query, and how it steers where nothing else says.

        Raises:
            NotFoundError: no such file.
            VectorError: it does not fit the target, or a file that is not a control vector.
        """
        steering = Steering()
        if isinstance(vector, str | Path):
            vector = read_control_vector(as_path("vector", vector))
        if isinstance(vector, ControlVector):
            vector.check_target(self.target.spec)
            steering = Steering(positions=trained_positions([ScaledVector(vector)]))
            vector = vector.vector(self.target.n_rows)
        vector = vector if isinstance(vector, TaskVector) else TaskVector(vector)
        self.target.check_vector(vector)
        return vector, steering


def _checked_sum(vectors: tuple[ScaledVector, ...], target: Target) -> TaskVector:
    for scaled in vectors:
        scaled.vector.check_target(target.spec)
    return sum_control_vectors(vectors, target.n_rows, target.n_embd)
