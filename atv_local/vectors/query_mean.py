"""The mean task vector of queries as a control vector, which steers without the generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from atv_local.errors import UsageError
from atv_local.vectors.control_vector import ControlVector
from atv_local.vectors.steering import Positions, Steering
from atv_local.vectors.target_spec import TargetSpec
from atv_local.vectors.task_vector import TaskVector


def mean_control_vector(
    vector_of: Callable[[str], TaskVector],
    queries: Sequence[str],
    steering: Steering,
    target: TargetSpec,
    made_by: Mapping[str, str] | None = None,
) -> ControlVector:
    """The mean over queries, with strength and layers applied.

    Args:
        vector_of: makes the vector of a query.
        queries: at least one.
        steering: its positions are recorded, so that the file is applied to the same tokens. A control vector has no
            prompt vector: where the queries' vectors have one, positions `all` become `decode`.
        target: what the vectors are for.
        made_by: recorded as well.

    Raises:
        UsageError: no queries, or layers that the target does not have.
    """
    if not queries:
        raise UsageError("`queries` is empty; give at least one")
    total = np.zeros((target.n_layer - 1, target.n_embd))
    for query in queries:
        vector = vector_of(query)
        total += vector.array
        if vector.prompt is not None and steering.positions.prefix:
            steering = replace(steering, positions=Positions.DECODE)
    first, last = steering.range(target.n_layer - 1)
    provenance = {
        **(made_by or {}),
        "target": target.name,
        "vocabulary_sha256": target.vocabulary_sha256,
        "positions": steering.positions.value,
        "strength": f"{steering.strength:g}",
        "layers": f"{first}-{last}",
        "n_queries": str(len(queries)),
        "queries_sha256": hashlib.sha256("\n".join(queries).encode()).hexdigest(),
    }
    return ControlVector.of(steering.apply(TaskVector(total / len(queries))), target.architecture, provenance)
