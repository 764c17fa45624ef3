"""An 8-bit copy of a graph.

The backbone's weight matrices, which every token of a query goes through, multiply 8 bits by 8 bits (ONNX Runtime's
dynamic quantisation by optimum's preset for the processor). What must be more exact (the expansion, which runs once
for a query, and matrices that the caller chooses) stores its weights in 8 bits, block by block, and computes in float.
Embeddings are stored in 8 bits row by row. Products of activations with each other, in attention, stay in float.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig, QuantizationConfig
from transformers import PretrainedConfig

from atv_export.export_choices import Processor

FloatMatrices = Literal["narrowing", "all"]
"""Which of the backbone's matrices compute in float, the faster choice first. Those that narrow, a feed-forward block's
second, read the activations with the widest range: they cause half of the error of 8 bits everywhere."""

BLOCK = 32
_INT8_BLOCKS = 4  # MatMulNBits' accuracy_level: products of int8 blocks, accumulated in float32


def quantize_graph(
    source: Path, output: Path, config: PretrainedConfig, processor: Processor, float_matrices: FloatMatrices
) -> None:
    """Write the graph at `source` to `output` with every weight in 8 bits.

    Args:
        config: of the backbone.
        processor: with `any`, weights have 7 bits, which every processor multiplies exactly and fast; the others are
            optimum's presets.
    """
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        prepared = Path(scratch) / "prepared.onnx"
        model = onnx.load(source)
        _split_gemm(model.graph)
        _quantize_embeddings(model.graph)
        onnx.save(model, prepared)
        if names := _dynamic(model.graph, float_matrices):
            preset = _preset(processor, names)
            ORTQuantizer(prepared, config).quantize(preset, Path(scratch), file_suffix="dynamic")
            model = onnx.load(Path(scratch) / "prepared_dynamic.onnx")
        quantizer = MatMulNBitsQuantizer(
            model, block_size=BLOCK, is_symmetric=True, accuracy_level=_INT8_BLOCKS, bits=8
        )
        quantizer.process()
        onnx.save(quantizer.model.model, output)


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries report every node, some through the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _preset(processor: Processor, names: list[str]) -> QuantizationConfig:
    chosen = {"is_static": False, "nodes_to_quantize": names, "operators_to_quantize": ["MatMul"]}
    if processor == "avx2":
        return AutoQuantizationConfig.avx2(**chosen)
    if processor == "avx512_vnni":
        return AutoQuantizationConfig.avx512_vnni(**chosen)
    if processor == "arm64":
        return AutoQuantizationConfig.arm64(**chosen)
    return AutoQuantizationConfig.avx512(**chosen, reduce_range=True)


def _dynamic(graph: onnx.GraphProto, float_matrices: FloatMatrices) -> list[str]:
    """Names of the MatMuls that compute in 8 bits."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2}
    matrices = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in shapes]
    sizes = [(node.name, *shapes[node.input[1]]) for node in matrices if "/expansion/" not in node.name]
    return [name for name, rows, columns in sizes if rows <= columns] if float_matrices == "narrowing" else []


def _split_gemm(graph: onnx.GraphProto) -> None:
    """Gemm (a Linear on 2-D input) as MatMul and Add, the form the quantizers look for."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Gemm" or node.input[1] not in weights:
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            continue
        data, weight, bias = node.input
        if attributes.get("transB"):
            tensor = weights[weight]
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), weight))
        product = f"{node.output[0]}_product"
        nodes = [
            helper.make_node("MatMul", [data, weight], [product], name=f"{node.name}_MatMul"),
            helper.make_node("Add", [product, bias], list(node.output), name=f"{node.name}_Add"),
        ]
        graph.node.remove(node)
        for new in reversed(nodes):
            graph.node.insert(index, new)


def _quantize_embeddings(graph: onnx.GraphProto) -> None:
    """Gather(float32 table) as Gather(int8 table) * Gather(scale): only the rows of a query are ever dequantised."""
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    for index, node in reversed(list(enumerate(graph.node))):
        if (
            node.op_type != "Gather"
            or node.input[0] not in tables
            or tables[node.input[0]].data_type != TensorProto.FLOAT
        ):
            continue
        name, ids = node.input
        table = numpy_helper.to_array(tables[name])
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
        graph.initializer.remove(tables[name])
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.rint(table / scale).astype(np.int8), f"{name}_int8"),
                numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
            ]
        )
        output = node.output[0]
        nodes = [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{output}_int8"], name=f"{node.name}_int8"),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{output}_scale"], name=f"{node.name}_scale"),
            helper.make_node("Cast", [f"{output}_int8"], [f"{output}_cast"], name=f"{node.name}_cast", to=1),
            helper.make_node("Mul", [f"{output}_cast", f"{output}_scale"], [output], name=f"{node.name}_mul"),
        ]
        graph.node.remove(node)
        for new in reversed(nodes):
            graph.node.insert(index, new)
