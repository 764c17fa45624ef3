"""Facts about a bundle, a model or a control vector, as plain values for JSON. No target is run."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_local.answer import check_query
from atv_local.data import ZIP, file_kind, tell
from atv_local.errors import AtvError, BundleError, UsageError
from atv_local.generator import MANIFEST, Bundle, Generator
from atv_local.target import TargetFile, check_gguf
from atv_local.vectors import ControlVector, TaskVector, is_control_vector, read_control_vector

Facts = dict[str, Any]
_MAX_QUERIES = 1000


def file_facts(path: Path, model: Path | None, queries: Sequence[str]) -> tuple[Facts, list[TaskVector]]:
    """Facts about a bundle, a model or a control vector, and the vectors of the queries.

    Raises:
        AtvError: another kind of file, a damaged one, or queries for something that is not a bundle.
    """
    if len(queries) > _MAX_QUERIES:
        raise UsageError(f"{len(queries)} queries are more than the {_MAX_QUERIES} that can be shown")
    if path.suffix.lower() != ".gguf" and not _is_gguf(path):
        if path.exists() and not _may_be_bundle(path):
            raise BundleError(
                f"{path} is not a bundle (a folder or zip with {MANIFEST}), GGUF model or control vector: "
                f"it is {file_kind(path).words}"
            )
        return _of_bundle(Bundle(path), model, queries)
    if queries:
        raise UsageError(f"{path} is a GGUF; only a bundle makes vectors for queries")
    if is_control_vector(path):
        return _of_vector(path, read_control_vector(path), model), []
    check_gguf(path)
    if model is not None:
        raise UsageError(f"{path} is a model; leave out -m, which is for a bundle or a control vector")
    return _of_model(path), []


def cosines(vectors: Sequence[TaskVector]) -> NDArray[np.float64]:
    """Cosine of every vector with every other, all layers together, [n, n]."""
    rows = np.array([vector.array.ravel() for vector in vectors], dtype=np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    product: NDArray[np.float64] = rows @ rows.T
    return product


def _of_bundle(bundle: Bundle, model: Path | None, queries: Sequence[str]) -> tuple[Facts, list[TaskVector]]:
    manifest = bundle.manifest
    facts: Facts = {"kind": "bundle", "path": str(bundle.path), "id": bundle.id}
    facts |= json.loads(manifest.model_dump_json())  # in which NaN is null
    if model is not None:
        target = TargetFile.open(model).spec
        facts["fits"] = _fits(lambda: bundle.check_target(target))
    if not queries:
        return facts, []
    for query in queries:
        check_query(query)
    generator = Generator(bundle)
    said = manifest.only_task.told() if manifest.only_task else None
    read = [tell(said, query) for query in queries]  # as it would be answered
    vectors, scores = zip(*map(generator.scored, read), strict=True)
    facts["runs"] = {"provider": generator.provider, "precision": generator.precision}
    facts["queries"] = [
        {
            "query": query,
            "norms": [round(float(norm), 6) for norm in vector.norms()],
            **generator.read(text).as_field(),
            **({} if score is None else {"gate": {"task": score.task, "score": round(score.score, 4)}}),
        }
        for query, text, vector, score in zip(queries, read, vectors, scores, strict=True)
    ]
    facts["cosines"] = cosines(vectors).round(6).tolist()
    return facts, list(vectors)


def _of_vector(path: Path, file: ControlVector, model: Path | None) -> Facts:
    facts: Facts = {
        "kind": "control vector",
        "path": str(path),
        "model_hint": file.model_hint,
        "n_embd": file.n_embd,
        "layers": sorted(file.rows),
        "norms": {str(layer): float(np.linalg.norm(np.float64(file.rows[layer]))) for layer in sorted(file.rows)},
        "provenance": dict(file.provenance),
        "sha256": _sha256(path),
    }
    if model is not None:
        target = TargetFile.open(model).spec
        facts["fits"] = _fits(lambda: file.check_target(target))
    return facts


def _of_model(path: Path) -> Facts:
    opened = TargetFile.open(path)
    spec = opened.spec
    return {
        "kind": "model",
        "path": str(path),
        "name": opened.model.meta("general.name"),
        "licence": spec.licence,
        "architecture": spec.architecture,
        "quantisation": opened.model.quantisation,
        "n_layer": spec.n_layer,
        "n_embd": spec.n_embd,
        "n_ctx": opened.model.n_ctx,
        "steerable_layers": [1, spec.n_layer - 1],
        "vocabulary_sha256": spec.vocabulary_sha256,
        "chat_template": bool(opened.vocabulary.chat_template),
        "size": path.stat().st_size,
        "sha256": _sha256(path),
    }


def _fits(check: Any) -> str:
    try:
        check()
    except AtvError as error:
        return f"no: {error}"
    return "yes"


def _may_be_bundle(path: Path) -> bool:
    if path.is_dir():  # or one of bundles, of which its error names some
        return (path / MANIFEST).exists() or any(path.glob(f"*/{MANIFEST}"))
    return path.is_file() and (zipfile.is_zipfile(path) or file_kind(path) == ZIP)


def _is_gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
