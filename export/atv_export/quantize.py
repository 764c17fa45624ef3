"""An int8 copy of a graph: weights stored in 8 bits, blockwise; activations stay in float32 between nodes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # it reports every node

BLOCK = 32
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: products of int8 blocks, accumulated in float32


def quantize_graph(source: Path, output: Path) -> None:
    """Write `source` to `output` with every weight matrix in 8 bits: MatMuls in blocks, embeddings by row."""
    model = onnx.load(source)
    _split_gemm(model.graph)
    quantizer = MatMulNBitsQuantizer(
        model, block_size=BLOCK, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS, bits=8
    )
    quantizer.process()
    model = quantizer.model.model
    _quantize_embeddings(model.graph)
    onnx.save(model, output)


def _split_gemm(graph: onnx.GraphProto) -> None:
    """Gemm (a Linear on 2-D input) as MatMul and Add, the form the quantizer looks for."""
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
