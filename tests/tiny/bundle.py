"""A bundle written by hand: a table of words, a pooling and an expansion, as `atv-local export` would lay them out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from atv_local.generator import (
    GATE,
    GATED_VERSION,
    GRAPHS,
    MANIFEST,
    NEIGHBOURS,
    STATIC,
    TOKENIZER,
    TOLD_VERSION,
    Bundle,
    DataFile,
    Fidelity,
    FileEntry,
    GateSpec,
    GateTask,
    Generator,
    GeneratorSpec,
    InjectionSpec,
    Manifest,
    Precision,
    Provenance,
    TaskSpec,
)
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from tests.tiny.rows import ANSWERS
from tests.tiny.tokenizer import word_pieces

Array = NDArray[np.float32]

_WIDTH = 16  # of an embedding: a column for each known word, the others for what tells other texts apart
_SALIENCE = 8.0  # of a known word in the pooling's softmax: beside one, other tokens hardly count
_CARD = "# Kinds\n\nAnswers `a` to a fruit and `b` to a beast. Made by hand, for tests.\n"


def write_bundle(
    folder: Path,
    model: Path,
    rows: Path,
    vectors: Array,
    precisions: Sequence[Precision] = ("int8", "fp32"),
    *,
    gated: bool = False,
) -> Path:
    """A bundle whose vectors for the words in `ANSWERS` are these, float32 [n_words, n_layer-1, n_embd].

    Of a query without such a word the vector is a mean over its characters. With a gate only these words are steered.
    """
    (folder / "onnx").mkdir(parents=True)
    expansion = np.random.default_rng(1).normal(0, 0.5, (_WIDTH, *vectors.shape[1:])).astype(np.float32)
    expansion[: len(vectors)] = vectors
    tokenizer = word_pieces([*ANSWERS])
    tokenizer.save(str(folder / TOKENIZER))
    for precision in precisions:
        (folder / GRAPHS[precision]).write_bytes(_graph(*_table(tokenizer), expansion, precision, gated))
    (folder / "README.md").write_text(_CARD)
    if gated:
        prototypes = np.repeat(np.eye(len(ANSWERS), _WIDTH, dtype="<f2"), NEIGHBOURS, axis=0)
        (folder / GATE).write_bytes(prototypes.tobytes())
    data = DataFile(name=rows.name, rows=len(rows.read_text().splitlines()), sha256=entry(rows).sha256)
    manifest = Manifest(
        format_version=GATED_VERSION if gated else 1,
        target=TargetFile.open(model).spec,
        generator=GeneratorSpec(backbone="a table of words", pooling="mean", max_tokens=64),
        injection=InjectionSpec(positions=Positions.DECODE),
        provenance=Provenance(data=[data], versions={"onnx": onnx.__version__}),
        tasks=[TaskSpec(name=rows.stem, kind="labels", labels=sorted({*ANSWERS.values()}))],
        gate=_gate(rows.stem) if gated else None,
        files={path.relative_to(folder).as_posix(): entry(path) for path in sorted(folder.rglob("*.*"))},
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    manifest = manifest.model_copy(update={"fidelity": _fidelity(Bundle(folder))})
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return folder


def write_variant(folder: Path, source: Path, words: Sequence[str], task: str, **injection: Any) -> Path:
    """A bundle as another with a gate, which lets other words of `ANSWERS` pass.

    Args:
        folder: where it is written.
        source: the other one.
        words: what passes; its labels are their answers.
        task: its name.
        injection: fields of the `InjectionSpec`.
    """
    copytree(source, folder)
    columns = [[*ANSWERS].index(word) for word in words]
    prototypes = np.repeat(np.eye(len(ANSWERS), _WIDTH, dtype="<f2")[columns], NEIGHBOURS, axis=0)
    (folder / GATE).write_bytes(prototypes.tobytes())
    manifest = Bundle(source).manifest
    gate = GateTask(name=task, prototypes=len(prototypes), threshold=0.9, scale=0.05)
    labels = sorted({ANSWERS[word] for word in words})
    changed = manifest.model_copy(
        update={
            "tasks": [TaskSpec(name=task, kind="labels", labels=labels)],
            "gate": GateSpec(tasks=[gate]),
            "injection": manifest.injection.model_copy(update=injection),
            "files": manifest.files | {GATE: entry(folder / GATE)},
        }
    )
    (folder / MANIFEST).write_text(changed.model_dump_json(indent=2) + "\n")
    return folder


def _gate(task: str) -> GateSpec:
    """The nearest prototypes of a known word are that word."""
    return GateSpec(tasks=[GateTask(name=task, prototypes=NEIGHBOURS * len(ANSWERS), threshold=0.9, scale=0.05)])


def _table(tokenizer: Tokenizer) -> tuple[Array, Array]:
    """Each token's embedding, float32 [n_tokens, width], and its salience, float32 [n_tokens]."""
    table = np.random.default_rng(2).normal(0, 0.5, (tokenizer.get_vocab_size(), _WIDTH)).astype(np.float32)
    salience = np.zeros(len(table), np.float32)
    for column, word in enumerate(ANSWERS):
        token = tokenizer.token_to_id(word)
        table[token] = np.eye(_WIDTH)[column]
        salience[token] = _SALIENCE
    return table, salience


def _graph(table: Array, salience: Array, expansion: Array, precision: Precision, pools: bool) -> bytes:
    nodes: list[onnx.NodeProto] = []
    tensors: list[TensorProto] = []

    def constant(name: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(array, name))
        return name

    def node(kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weights(name: str, array: Array) -> str:
        if precision == "int8":
            scale = np.float32(np.abs(array).max() / 127)
            rounded = constant(f"{name}_int8", np.round(array / scale).astype(np.int8))
            return node("DequantizeLinear", rounded, constant(f"{name}_scale", np.array(scale)))
        if precision == "fp16":
            return node("Cast", constant(name, array.astype(np.float16)), to=TensorProto.FLOAT)
        return constant(name, array)

    axis = constant("axis", np.array([1]))
    mask = node("Log", node("Cast", "attention_mask", to=TensorProto.FLOAT))  # zero, or minus infinity
    scores = node("Add", node("Gather", constant("salience", salience), "input_ids"), mask)
    shares = node("Unsqueeze", node("Softmax", scores, axis=-1), axis)
    pooled = node(
        "Squeeze", node("MatMul", shares, node("Gather", weights("table", table), "input_ids")), axis, output="pooled"
    )
    flat = node("MatMul", pooled, weights("expansion", expansion.reshape(_WIDTH, -1)))
    node("Reshape", flat, constant("shape", np.array([-1, *expansion.shape[1:]])), output="task_vector")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("task_vector", TensorProto.FLOAT, ["batch", *expansion.shape[1:]])
    outputs = [output]
    if pools:
        outputs.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", _WIDTH]))
    graph = helper.make_graph(nodes, "kinds", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _fidelity(bundle: Bundle) -> dict[Precision, Fidelity]:
    """How near each graph is to the most exact one, over the known words."""
    generators = {name: Generator(bundle, precision=name) for name in bundle.graphs}
    vectors = {name: np.stack([generator(word).array for word in ANSWERS]) for name, generator in generators.items()}
    exact = vectors.get("fp32", next(iter(vectors.values())))
    found: dict[Precision, Fidelity] = {}
    for name, rounded in vectors.items():
        cosine = (rounded * exact).sum(2) / np.linalg.norm(rounded, axis=2) / np.linalg.norm(exact, axis=2)
        error = np.linalg.norm(rounded - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))
        found[name] = Fidelity(queries=len(ANSWERS), cosine=cosine.min(), error=error.max())
    return found


def entry(path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_told(folder: Path, source: Path, instructions: Mapping[str, str], static: Array | None = None) -> Path:
    """A bundle as another with these tasks and their instructions, and a static vector, float32 [n_layer-1, n_embd]."""
    copytree(source, folder)
    manifest = Bundle(source).manifest
    files = dict(manifest.files)
    if static is not None:
        (folder / STATIC).write_bytes(static.astype("<f4").tobytes())
        files[STATIC] = entry(folder / STATIC)
    tasks = [TaskSpec(name=name, kind="text", instruction=said) for name, said in instructions.items()]
    told = {"tasks": tasks, "format_version": TOLD_VERSION, "static": static is not None, "files": files}
    changed = manifest.model_copy(update=told)
    (folder / MANIFEST).write_text(changed.model_dump_json(indent=2) + "\n")
    return folder
