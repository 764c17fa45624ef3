"""Writing the graphs of a bundle, each verified against PyTorch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import get_args

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from atv_export.export_choices import Processor
from atv_export.graph import write_graph
from atv_export.quantize import FloatMatrices, quantize_graph
from atv_export.verify_graph import GraphCheck, Probes, missed_bound, require_bounds
from atv_local.errors import BundleError
from atv_local.generator import GRAPHS, Precision
from atv_train.vector_sources import GeneratorModule

_MAX_BYTES = (2 << 30) - (16 << 20)  # protobuf's limit, less the nodes


def check_size(generator: GeneratorModule, source: Path) -> None:
    """Raise BundleError if the weights do not fit an ONNX graph."""
    size = 4 * sum(parameter.numel() for parameter in generator.parameters())
    if size > _MAX_BYTES:
        raise BundleError(f"the generator of {source} has {size} bytes of weights; an ONNX graph holds {_MAX_BYTES}")


def write_graphs(
    folder: Path, precisions: Collection[Precision], generator: GeneratorModule, probes: Probes, processor: Processor
) -> tuple[dict[Precision, GraphCheck], FloatMatrices | None]:
    """Write the graphs of these precisions into a bundle's folder.

    Returns:
        How each was verified, and which of the backbone's matrices the int8 graph computes in float.

    Raises:
        BundleError: a graph is further from PyTorch than its bound.
    """
    (folder / "onnx").mkdir()
    full = folder / GRAPHS["fp32"]
    write_graph(generator, full)
    full_check = probes.check(full)
    require_bounds(full_check, "fp32")
    checks: dict[Precision, GraphCheck] = {}
    float_matrices: FloatMatrices | None = None
    if "int8" in precisions:
        small = folder / GRAPHS["int8"]
        for float_matrices in get_args(FloatMatrices):  # the first that is exact enough is the fastest
            quantize_graph(full, small, generator.backbone.config, processor, float_matrices)
            checks["int8"] = probes.check(small)
            if not missed_bound(checks["int8"], "int8"):
                break
        require_bounds(checks["int8"], "int8")
    if "fp16" in precisions:
        half = convert_float_to_float16(onnx.load(full), keep_io_types=True)
        onnx.save(half, folder / GRAPHS["fp16"])
        checks["fp16"] = probes.check(folder / GRAPHS["fp16"])
        require_bounds(checks["fp16"], "fp16")
    if "fp32" in precisions:
        checks["fp32"] = full_check
    else:
        full.unlink()
    return checks, float_matrices
