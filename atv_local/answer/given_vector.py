"""A vector that is given with a query, in place of the one that a generator would make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from atv_local.data import as_path
from atv_local.target import Target
from atv_local.vectors import ControlVector, ScaledVector, Steering, TaskVector, read_control_vector, trained_positions

GivenVector = ControlVector | TaskVector | ArrayLike | str | Path
"""A vector in place of the query's own; a path is that of a control-vector GGUF."""


@dataclass(frozen=True)
class CheckedVector:
    """A given vector that fits the target.

    Attributes:
        vector: its values.
        source: the same for records.
        steering: how it is applied unless something else is asked for.
    """

    vector: TaskVector
    source: ScaledVector
    steering: Steering

    @classmethod
    def of(cls, given: GivenVector, target: Target) -> CheckedVector:
        """Read a vector, or the file that has it, and check it.

        Raises:
            NotFoundError: no such file.
            VectorError: it does not fit the target, or a file that is not a control vector.
        """
        if isinstance(given, str | Path):
            given = read_control_vector(as_path("vector", given))
        if isinstance(given, ControlVector):
            given.check_target(target.spec)
            source = ScaledVector(given)
            checked = cls(given.vector(target.n_rows), source, Steering(positions=trained_positions([source])))
        else:
            made = given if isinstance(given, TaskVector) else TaskVector(given)
            checked = cls(made, ScaledVector(ControlVector.of(made)), Steering())
        target.check_vector(checked.vector)
        return checked
