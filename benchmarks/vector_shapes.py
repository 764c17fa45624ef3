"""How the vectors of the demo's tasks differ: their norms by layer, and where they lie in the plane in which all vary
most.

python -m benchmarks.vector_shapes --output benchmarks/results/vector_shapes.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import atv_local
from atv_local.data import read_rows, read_unrelated_queries
from benchmarks.json_lines import append_lines

DEMO = Path(__file__).parent.parent / "data" / "demo" / "test"
OTHER, N_QUERIES = "other queries", 30
QUARTILES = (0.25, 0.5, 0.75)


def shapes(queries: Mapping[str, Sequence[str]], engine: atv_local.Engine) -> dict[str, dict[str, Any]]:
    """For each task the quartiles of the norm at each layer, and two coordinates for each query."""
    vectors = {task: np.stack([engine.vector(query).array for query in texts]) for task, texts in queries.items()}
    planes = projected({task: found.reshape(len(found), -1) for task, found in vectors.items()})
    norms = {task: np.linalg.norm(found, axis=-1) for task, found in vectors.items()}
    return {
        task: {
            "norms": np.quantile(norms[task], QUARTILES, axis=0).round(3).tolist(),
            "plane": planes[task].round(3).tolist(),
        }
        for task in queries
    }


def projected(vectors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Onto the first two principal components of all of them."""
    every = np.concatenate(list(vectors.values()))
    mean = every.mean(axis=0)
    _, _, axes = np.linalg.svd(every - mean, full_matrices=False)
    return {task: (found - mean) @ axes[:2].T for task, found in vectors.items()}


def main() -> None:
    """Read test rows of the demo's tasks and unrelated queries; append the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    arguments = parser.parse_args()
    queries = {
        file.stem: [row.input for row in read_rows(file).rows][:N_QUERIES] for file in sorted(DEMO.glob("*.jsonl"))
    }
    queries[OTHER] = list(read_unrelated_queries(None))[-N_QUERIES:]
    with atv_local.load() as engine:
        assert engine.generator is not None
        record = {"bundle_id": engine.generator.bundle.id, "tasks": shapes(queries, engine)}
    append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
