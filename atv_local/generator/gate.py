"""The gate of a bundle: how well a query fits its tasks, by the training rows that are nearest to it.

Similarities are cosines of pooled states, those that the vectors are made from. It knows no target and no steering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atv_local.errors import BundleError
from atv_local.generator.bundle import Bundle
from atv_local.generator.manifest import GateSpec

GATE = "gate.f16"
"""Where a bundle has the prototypes: little-endian float16, row by row."""
NEIGHBOURS = 3
"""Prototypes whose mean similarity counts."""
_OUTSIDE_WEIGHT = 0.25
_MAX_BYTES = 64 << 20  # training makes 8,192 prototypes at most: 64 MiB if they are 4,096 wide

_STEEPEST = 500.0  # so that the exponential does not overflow


@dataclass(frozen=True)
class TaskScore:
    """The task that a query fits best, and how well, from 0 to 1; at 0.5 lies the threshold of the bundle."""

    task: str
    score: float


class Gate:
    """Scores pooled states.

    Args:
        spec: the tasks, with the number of prototypes of each.
        prototypes: unit vectors [n, d_s], in the order of the spec.

    Raises:
        ValueError: another number of prototypes than the spec has, or values that are not finite.
    """

    def __init__(self, spec: GateSpec, prototypes: NDArray[np.floating]) -> None:
        if prototypes.ndim != 2 or len(prototypes) != spec.n_prototypes or not prototypes.shape[1]:
            raise ValueError(f"{list(prototypes.shape)} prototypes, not {spec.n_prototypes}")
        if not np.isfinite(prototypes).all():
            raise ValueError("prototypes that are not finite")
        self._spec = spec
        self._prototypes = prototypes.astype(np.float32)
        self._thresholds = np.array([task.threshold for task in spec.tasks])
        self._scales = np.array([task.scale for task in spec.tasks])
        sizes = np.array([*(task.prototypes for task in spec.tasks), spec.outside])
        self._groups = 4.0 * np.repeat(np.arange(len(sizes)), sizes)  # further apart than cosines can be
        among = np.arange(NEIGHBOURS) < sizes[:, None]
        first = np.cumsum(sizes) - sizes
        self._nearest = np.where(among, first[:, None] + np.arange(NEIGHBOURS), 0)
        self._weights = among / np.maximum(among.sum(axis=1, keepdims=True), 1)
        self._empty = sizes == 0

    @property
    def width(self) -> int:
        """The width of the states that it scores."""
        return int(self._prototypes.shape[1])

    def with_thresholds(self, spec: GateSpec) -> Gate:
        """The gate of a spec that differs in its thresholds alone."""
        return Gate(spec, self._prototypes)

    def similarities(self, state: NDArray[np.float32]) -> NDArray[np.float64]:
        """How near a state [d_s] is to each task, less a quarter of that to those outside: float64 [n_tasks]."""
        found = self.nearest(state)
        similarities: NDArray[np.float64] = found[:-1] - _OUTSIDE_WEIGHT * max(0.0, float(found[-1]))
        return similarities

    def nearest(self, state: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean similarity of a state [d_s] to the `NEIGHBOURS` nearest prototypes of each task, and of those
        outside; -1 for none: float64 [n_tasks + 1]."""
        # not `@`: threads of BLAS go on for 30 ms after it, on cores that llama.cpp waits for
        cosines = np.einsum("pe,e->p", self._prototypes, state / (float(np.linalg.norm(state)) or 1.0))
        nearest_first = np.sort(self._groups - cosines)
        values = self._groups[self._nearest] - nearest_first[self._nearest]
        means: NDArray[np.float64] = np.where(self._empty, -1.0, (values * self._weights).sum(axis=1))
        return means

    def __call__(self, state: NDArray[np.float32]) -> TaskScore:
        """The task that a state [d_s] fits best."""
        tasks = self._spec.tasks
        margins = (self.similarities(state) - self._thresholds) / self._scales
        best = int(np.argmax(margins))
        margin = float(np.clip(margins[best], -_STEEPEST, _STEEPEST))
        return TaskScore(tasks[best].name, float(1 / (1 + np.exp(-margin))))


def read_gate(bundle: Bundle) -> Gate | None:
    """The gate of a bundle, if it has one.

    Raises:
        BundleError: prototypes that are missing, too many, or not those of the manifest.
    """
    spec = bundle.manifest.gate
    if spec is None:
        return None
    if (entry := bundle.manifest.files.get(GATE)) is None:
        raise BundleError(f"the bundle {bundle.path} has a gate and lists no {GATE}; export it again")
    if entry.size > _MAX_BYTES:
        raise BundleError(f"the bundle {bundle.path} has a {GATE} of {entry.size} bytes, more than {_MAX_BYTES}")
    try:
        return Gate(spec, np.frombuffer(bundle.read(GATE), "<f2").reshape(spec.n_prototypes, -1))
    except ValueError as error:
        raise BundleError(f"the {GATE} of the bundle {bundle.path} is damaged: {error}") from error


def nearest_mean(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the `NEIGHBOURS` largest of the last axis, or of all if they are fewer: [..., n] to [...]."""
    n = min(NEIGHBOURS, cosines.shape[-1])
    mean: NDArray[np.float32] = np.partition(cosines, -n)[..., -n:].mean(axis=-1)
    return mean
