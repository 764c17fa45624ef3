"""Where the vectors of answers come from: a generator, a static vector, or one given with the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from atv_local.data import as_path
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import Target
from atv_local.vectors import (
    OFF,
    ControlVector,
    Positions,
    Steering,
    TaskVector,
    mean_control_vector,
    read_control_vector,
    trained_positions,
)


class QueryVectors:
    """The vectors for one target, and how they steer by default.

    Args:
        target: what they steer.
        generator: reads each query and makes its vector.
        static: added to the vector of every query, or used alone.

    Raises:
        BundleError: a generator made for another target.
        VectorError: a static vector of another shape.
        UsageError: something else than a `Target`, `Generator` or `TaskVector`, or a target that is closed.
    """

    def __init__(self, target: Target, generator: Generator | None, static: TaskVector | None) -> None:
        if not isinstance(target, Target):
            raise UsageError(f"`target` {target!r} is not a Target; load files with atv_local.load")
        target.check_open()
        if not isinstance(generator, Generator | None):
            raise UsageError(f"`generator` {generator!r} is not a Generator; load files with atv_local.load")
        if not isinstance(static, TaskVector | None):
            raise UsageError(f"`static` {static!r} is not a TaskVector; read one with TaskVector.load")
        if static is not None:
            target.check_vector(static)
        if generator is not None:
            generator.bundle.check_target(target.spec)
        self.target, self.generator, self.static = target, generator, static

    def default_steering(self) -> Steering:
        """That of the bundle; all tokens for a static vector alone, as llama.cpp's own tools do; else off."""
        if self.generator is None:
            return OFF if self.static is None else Steering(positions=Positions.ALL)
        trained = self.generator.steering
        return trained if self.static is None else replace(trained, layers=None)

    def check(self) -> None:
        """Raise UsageError if there is neither a generator nor a static vector."""
        if self.generator is None and self.static is None:
            raise UsageError("no generator is loaded, so the target cannot be steered; name one with `bundle=...`")

    def __call__(self, query: str) -> TaskVector:
        """The vector for a query, float32 [n_layer-1, n_embd].

        Raises:
            UsageError: as `check`.
        """
        self.check()
        if self.generator is None:
            assert self.static is not None
            return self.static
        vector = self.generator(query)
        if self.static is None:
            return vector
        layers = self.generator.steering.layers
        return (vector.only(*layers) if layers else vector) + self.static

    def control_vector(self, queries: Sequence[str], steering: Steering) -> ControlVector:
        """The mean over queries, with strength and layers applied; it names the bundle that alone made it."""
        if self.generator is not None and self.static is None:
            return self.generator.control_vector(queries, steering=steering)
        return mean_control_vector(self, queries, steering, self.target.spec)

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
            steering = Steering(positions=trained_positions([vector]))
            vector = vector.vector(self.target.n_rows)
        vector = vector if isinstance(vector, TaskVector) else TaskVector(vector)
        self.target.check_vector(vector)
        return vector, steering
