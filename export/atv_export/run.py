"""One export from checkpoint to bundle: what `atv-local export` does, without the terminal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from atv_export.graph import write_graph
from atv_export.quantize import quantize_graph
from atv_local.bundle import MANIFEST, TOKENIZER
from atv_local.errors import BundleError, UsageError
from atv_local.files import replacing_folder
from atv_local.manifest import FileEntry, Manifest
from atv_train import checkpoint
from atv_train.generator import Generator

FP32_BOUND = 1e-5
"""Largest difference of one value between the float32 graph and PyTorch, relative to the largest value."""
INT8_BOUND = 0.1
"""Largest relative error, in norm, of a task vector from the int8 graph."""

_CARD = "README.md"
_PROBES = (
    "hi",
    "Is this message spam? You have won a prize, call now to claim it.",
    "My card was charged twice for the same coffee yesterday, and I would like one of the two payments back. " * 4,
)


def run(folder: Path, output: Path, *, int8: bool = True, fp32: bool = True, card: Path | None = None) -> Manifest:
    """Write the bundle of a checkpoint, or nothing.

    Args:
        folder: written by `atv-local train`.
        output: bundle folder; an earlier bundle there is replaced.
        int8: include the 8-bit graph, which the runtime prefers.
        fp32: include the float32 graph.
        card: Markdown for the bundle's README.md; by default a short one made from the manifest.

    Raises:
        BundleError: the checkpoint is damaged, or a graph is further from PyTorch than its bound.
        UsageError: neither graph is wanted, or the output cannot be written.
    """
    if not int8 and not fp32:
        raise UsageError("nothing to export: leave --int8 or --fp32 on")
    spec, generator, tokenizer = checkpoint.load(folder)
    text = _read(card) if card else _default_card(output.name, spec.model_dump_json(indent=2))
    with replacing_folder(output, marker=MANIFEST) as temporary:
        graphs = temporary / "onnx"
        graphs.mkdir()
        full, small = graphs / "model.onnx", graphs / "model_int8.onnx"
        write_graph(generator, full)
        probes = [_encode(tokenizer, text, spec.generator.max_tokens) for text in _PROBES]
        expected = [_pytorch(generator, probe) for probe in probes]
        _require("float32", _largest_difference(full, probes, expected), FP32_BOUND)
        if int8:
            quantize_graph(full, small)
            _require("int8", _largest_error(small, probes, expected), INT8_BOUND)
        if not fp32:
            full.unlink()
        tokenizer.backend_tokenizer.save(str(temporary / TOKENIZER))
        (temporary / _CARD).write_text(text, encoding="utf-8")
        files = {path.relative_to(temporary).as_posix(): _entry(path) for path in sorted(temporary.rglob("*.*"))}
        manifest = Manifest(**spec.model_dump(), files=files)
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _encode(tokenizer: Any, text: str, max_tokens: int) -> dict[str, NDArray[np.int64]]:
    encoded = tokenizer([text], truncation=True, max_length=max_tokens, return_tensors="np")
    return {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


@torch.no_grad()
def _pytorch(generator: Generator, probe: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    return generator(**{name: torch.from_numpy(array) for name, array in probe.items()}).numpy()


def _outputs(graph: Path, probes: list[dict[str, NDArray[np.int64]]]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return [session.run(None, probe)[0] for probe in probes]


def _largest_difference(graph: Path, probes: list[Any], expected: list[NDArray[np.float32]]) -> float:
    scale = max(np.abs(vector).max() for vector in expected) or 1.0
    pairs = zip(_outputs(graph, probes), expected, strict=True)
    return float(max(np.abs(found - vector).max() for found, vector in pairs) / scale)


def _largest_error(graph: Path, probes: list[Any], expected: list[NDArray[np.float32]]) -> float:
    pairs = zip(_outputs(graph, probes), expected, strict=True)
    return float(max(np.linalg.norm(found - vector) / (np.linalg.norm(vector) or 1.0) for found, vector in pairs))


def _require(name: str, found: float, bound: float) -> None:
    if not found <= bound:
        raise BundleError(
            f"the {name} graph differs from PyTorch by {found:.2g}, more than {bound:g}; nothing was written"
        )


def _read(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the model card {card}: {error}") from error


def _default_card(name: str, spec: str) -> str:
    return f"# {name}\n\nA task-vector generator for atv-local; made from, for and with:\n\n```json\n{spec}\n```\n"


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)
