"""The generator of a bundle in PyTorch: its backbone, with the weights of the bundle's graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from atv_local.errors import BundleError, first_line
from atv_local.generator import GRAPHS, Bundle, Generator, Precision
from atv_train.hub_models import HUB_DEFAULT, default_backbone
from atv_train.run_folder import generator_of_spec
from atv_train.vector_sources import AdaptiveVectors, load_backbone

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from atv_train.vector_sources import GeneratorModule

Array = NDArray[np.float32]

_BEST: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_PREFIX = "generator."
_LEAST_COSINE = 0.98
"""Of the vectors of a query from the graph and from PyTorch; 8 bits change them by less."""
_PROBE = "What is the capital of the country that they came from?"


def load_bundle(bundle: Bundle, backbone: str | None = None) -> tuple[GeneratorModule, PreTrainedTokenizerFast]:
    """The generator of a bundle and the tokenizer of its backbone, as near as the weights of its graph are.

    Args:
        bundle: of the graphs that it has, the most exact one is read.
        backbone: a folder or hub id of the architecture; by default the one that the manifest names.

    Raises:
        BundleError: a graph that another program wrote, or one for another backbone.
        ModelError: the backbone cannot be loaded.
    """
    spec = bundle.manifest
    named = default_backbone() if spec.generator.backbone == HUB_DEFAULT else spec.generator.backbone
    model, tokenizer = load_backbone(backbone or named)
    generator = generator_of_spec(model, spec)
    precision = next(one for one in _BEST if one in bundle.graphs)
    given = Generator(bundle, precision=precision)(_PROBE)  # which refuses a graph that must not be read
    try:
        found = dict(_weights(onnx.load_from_string(bundle.read(GRAPHS[precision])).graph))
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        raise BundleError(f"the graph of {bundle.path} cannot be trained on: {first_line(error)}") from error
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            parameter.copy_(_shaped(bundle, name, found.get(name), parameter))
    vectors = AdaptiveVectors(generator.eval(), tokenizer, spec.generator.max_tokens)
    with torch.no_grad():
        ours = generator.expand(vectors.pooled([_PROBE]))[0].numpy().ravel()
    parts = (given.array,) if given.prompt is None else (given.array, given.prompt.array)
    theirs = np.concatenate([part.ravel() for part in parts])
    cosine = float(ours @ theirs / max(float(np.linalg.norm(ours) * np.linalg.norm(theirs)), 1e-12))
    if cosine < _LEAST_COSINE:
        raise BundleError(
            f"the bundle {bundle.path} gives another vector in PyTorch (cosine {cosine:.3f}): its backbone is not "
            f"{backbone or named}; start from the run that it was exported from"
        )
    return generator, tokenizer


def _shaped(bundle: Bundle, name: str, found: Array | None, parameter: torch.Tensor) -> torch.Tensor:
    if found is not None and found.shape == tuple(parameter.shape):
        return torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
    raise BundleError(
        f"the graph of {bundle.path} has no weights for {name} of shape {tuple(parameter.shape)}; start from the run "
        "that it was exported from"
    )


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[str, Array]]:
    """Weights by the names of the parameters that they were, in their shapes."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}

    def array(name: str) -> NDArray[np.generic]:
        return numpy_helper.to_array(tensors[name])

    for name, tensor in tensors.items():
        if name.startswith(_PREFIX) and tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            yield name.removeprefix(_PREFIX), array(name).astype(np.float32)
        if name.endswith("_int8") and f"{name.removesuffix('_int8')}_scale" in tensors:
            stem = name.removesuffix("_int8")
            yield stem.removeprefix(_PREFIX), array(name).astype(np.float32) * array(f"{stem}_scale").astype(np.float32)
    for node in graph.node:
        if len(node.input) < 2 or node.input[1] not in tensors:
            continue
        weight = node.input[1]
        name = f"{_module_of(node.name)}.weight"
        if node.op_type == "MatMulNBits":
            n_columns = next(attribute.i for attribute in node.attribute if attribute.name == "K")
            codes, scale = array(weight), array(node.input[2])
            rows = _values(codes, np.float32(128), scale.reshape(*codes.shape[:2], 1))
            yield name, rows.reshape(len(rows), -1)[:, :n_columns]
        elif node.op_type == "MatMulInteger":
            stem = weight.removesuffix("_quantized")
            yield name, _values(array(weight), array(node.input[3]), array(f"{stem}_scale")).T
        elif node.op_type == "MatMul" and len(tensors[weight].dims) == 2:
            yield name, array(weight).astype(np.float32).T


def _values(codes: NDArray[np.generic], zero: np.float32 | NDArray[np.generic], scale: NDArray[np.generic]) -> Array:
    """Weights of 8-bit codes, each moved within its step by chance.

    Quantised again, weights that lie on a grid would all be rounded in the same direction: the sums over them that a
    feed-forward block makes were off by a fifth.
    """
    moved = np.random.default_rng(0).uniform(-0.5, 0.5, codes.shape)
    steps = codes.astype(np.float32) - np.asarray(zero, np.float32) + moved
    return (steps * scale.astype(np.float32)).astype(np.float32)


def _module_of(node: str) -> str:
    """`/backbone/encoder/layer.0/output/dense/MatMul_Q8` -> `backbone.encoder.layer.0.output.dense`."""
    *parts, _ = node.strip("/").split("/")
    following = [*parts[1:], ""][: len(parts)]  # a module of a list is named after the list as well
    return ".".join(part for part, then in zip(parts, following, strict=True) if not then.startswith(f"{part}."))
