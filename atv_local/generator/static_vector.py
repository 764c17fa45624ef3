"""The static vector of a bundle: one for all queries, learned from the rows that the generator was trained on."""

from __future__ import annotations

import numpy as np

from atv_local.errors import BundleError
from atv_local.generator.bundle import Bundle
from atv_local.vectors import TaskVector

STATIC = "static.f32"
"""Its file: float32 [rows, n_embd], little-endian, with as many rows as the graph gives."""


def read_static(bundle: Bundle) -> TaskVector | None:
    """The static vector of a bundle; None if it has none.

    Raises:
        BundleError: a file that is missing, or of another size than the manifest says.
    """
    spec = bundle.manifest
    if not spec.static:
        return None
    n_rows, n_embd = spec.target.n_layer - 1, spec.target.n_embd
    n_bytes = 4 * spec.injection.n_vectors * n_rows * n_embd
    if STATIC not in spec.files or spec.files[STATIC].size != n_bytes:
        raise BundleError(f"the bundle {bundle.path} is refused: its {STATIC} is not of {n_bytes} bytes")
    values = np.frombuffer(bundle.read(STATIC), dtype="<f4").reshape(-1, n_embd).astype(np.float32)
    if not np.isfinite(values).all():
        raise BundleError(f"the bundle {bundle.path} is refused: its {STATIC} has values that are not finite")
    return TaskVector(values[:n_rows], values[n_rows:] if spec.injection.n_vectors == 2 else None)
