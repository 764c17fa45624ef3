"""Hostile bundles, built by code from a good one. Each manifest agrees with its files: only the content is bad."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Build = Callable[[Path, Path], Path]
"""From a good bundle and an empty folder to the hostile one."""
ROWS, WIDTH = 3, 64  # of the tiny target
VECTOR = np.ones((1, ROWS, WIDTH), np.float32)


def _with(name: str, data: Callable[[bytes], bytes]) -> Build:
    """One file of the bundle replaced, and the manifest made to agree."""

    def build(good: Path, folder: Path) -> Path:
        bundle = shutil.copytree(good, folder / "bundle")
        content = data((bundle / name).read_bytes())
        (bundle / name).write_bytes(content)
        manifest = json.loads((bundle / "atv.json").read_text())
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (bundle / "atv.json").write_text(json.dumps(manifest))
        return bundle

    return build


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Build:
    def build(good: Path, folder: Path) -> Path:
        bundle = shutil.copytree(good, folder / "bundle")
        manifest = json.loads((bundle / "atv.json").read_text())
        change(manifest)
        (bundle / "atv.json").write_text(json.dumps(manifest))
        return bundle

    return build


def _graph(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[TensorProto] = (),
    *,
    output: tuple[int, list[int]] = (TensorProto.FLOAT, [1, ROWS, WIDTH]),
    domains: Sequence[str] = (),
) -> Callable[[bytes], bytes]:
    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("task_vector", *output)],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return lambda _: model.SerializeToString()


def _constant(array: np.ndarray) -> Callable[[bytes], bytes]:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = numpy_helper.from_array(array, "weights")
    node = helper.make_node("Identity", ["weights"], ["task_vector"])
    return _graph([node], [tensor], output=(kind, list(array.shape)))


def _external(location: str) -> Callable[[bytes], bytes]:
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1, ROWS, WIDTH], data_location=1)
    tensor.external_data.add(key="location", value=location)
    return _graph([helper.make_node("Identity", ["weights"], ["task_vector"])], [tensor])


def _huge() -> Callable[[bytes], bytes]:
    """A few bytes that ask for a tensor of four terabytes."""
    shape = numpy_helper.from_array(np.array([1, 1 << 20, 1 << 20], dtype=np.int64), "shape")
    return _graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["task_vector"])],
        [shape],
        output=(TensorProto.FLOAT, [1, 1 << 20, 1 << 20]),
    )


def _looping() -> Callable[[bytes], bytes]:
    """A loop of 2^62 rounds."""
    kind, boolean = TensorProto.FLOAT, TensorProto.BOOL
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", boolean, []),
            helper.make_tensor_value_info("before", kind, [1, ROWS, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("still", boolean, []),
            helper.make_tensor_value_info("after", kind, [1, ROWS, WIDTH]),
        ],
    )
    tensors = [
        numpy_helper.from_array(np.array(1 << 62), "rounds"),
        numpy_helper.from_array(np.array(True), "go"),
        numpy_helper.from_array(VECTOR, "weights"),
    ]
    return _graph([helper.make_node("Loop", ["rounds", "go", "weights"], ["task_vector"], body=body)], tensors)


def _loop_in_a_branch() -> Callable[[bytes], bytes]:
    """The loop as a branch of an If, which exports of some models have."""
    inner = onnx.load_from_string(_looping()(b"")).graph
    del inner.input[:]
    node = helper.make_node("If", ["go"], ["task_vector"], then_branch=inner, else_branch=inner)
    return _graph([node], [numpy_helper.from_array(np.array(True), "go")])


def _with_functions(_: bytes) -> bytes:
    """Functions that call each other twice: 2^40 nodes once they are inlined."""
    model = onnx.load_from_string(_constant(VECTOR)(b""))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for level in range(40):
        domain, name = ("own", f"f{level + 1}") if level < 39 else ("", "Identity")
        nodes = [
            helper.make_node(name, ["x"], ["y"], domain=domain),
            helper.make_node(name, ["y"], ["z"], domain=domain),
        ]
        model.functions.append(helper.make_function("own", f"f{level}", ["x"], ["z"], nodes, opsets))
    model.graph.node[0].op_type, model.graph.node[0].domain = "f0", "own"
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model.SerializeToString()


def _expanding() -> Callable[[bytes], bytes]:
    """Eight gigabytes, summed up to the right shape."""
    shape = numpy_helper.from_array(np.array([1 << 31, 1], dtype=np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Exp", ["zeros"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["sum"]),
        helper.make_node("Mul", ["sum", "weights"], ["task_vector"]),
    ]
    return _graph(nodes, [shape, numpy_helper.from_array(VECTOR, "weights")])


def _normaliser_bomb(data: bytes) -> bytes:
    """Every letter ten times, thirty times over."""
    tokenizer = json.loads(data)
    ten = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [ten] * 30}
    return json.dumps(tokenizer).encode()


def _zipped(write: Callable[[zipfile.ZipFile, Path], None]) -> Build:
    def build(good: Path, folder: Path) -> Path:
        path = folder / "bundle.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            write(archive, good)
        return path

    return build


def _all(archive: zipfile.ZipFile, good: Path, names: Callable[[str], str] = str) -> None:
    for file in sorted(good.rglob("*.*")):
        archive.write(file, names(file.relative_to(good).as_posix()))


def _two_folders(archive: zipfile.ZipFile, good: Path) -> None:
    _all(archive, good, lambda name: f"one/{name}")
    _all(archive, good, lambda name: f"two/{name}")


def _bomb(archive: zipfile.ZipFile, good: Path) -> None:
    """A graph of 64 MiB of zeros in 64 KiB, listed truthfully."""
    zeros = bytes(64 << 20)
    manifest = json.loads((good / "atv.json").read_text())
    manifest["files"] = {
        "tokenizer.json": manifest["files"]["tokenizer.json"],
        "onnx/model.onnx": {"size": len(zeros), "sha256": hashlib.sha256(zeros).hexdigest()},
    }
    archive.writestr("atv.json", json.dumps(manifest))
    archive.write(good / "tokenizer.json", "tokenizer.json")
    archive.writestr("onnx/model.onnx", zeros)


def _escaping(archive: zipfile.ZipFile, good: Path) -> None:
    manifest = json.loads((good / "atv.json").read_text())
    manifest["files"]["../escaped.txt"] = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    for name in manifest["files"]:
        archive.writestr(name, b"x" if ".." in name else (good / name).read_bytes())
    archive.writestr("atv.json", json.dumps(manifest))


def _endless_manifest(archive: zipfile.ZipFile, _good: Path) -> None:
    archive.writestr("atv.json", b" " * (256 << 20))


def _fixed_to_nothing(data: bytes) -> bytes:
    """Padding to a multiple of zero, on which the tokenizers library panics."""
    tokenizer = json.loads(data)
    tokenizer["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    return json.dumps(tokenizer).encode()


def _bzip2(archive: zipfile.ZipFile, good: Path) -> None:
    """Members that unpack without a limit, whatever their header says."""
    for file in sorted(good.rglob("*.*")):
        archive.write(file, file.relative_to(good).as_posix(), zipfile.ZIP_BZIP2)


INT8 = "onnx/model_int8.onnx"

BUNDLES: dict[str, Build] = {
    "graph cut": _with(INT8, lambda data: data[: len(data) // 2]),
    "graph empty": _with(INT8, lambda _: b""),
    "graph a pickle": _with(INT8, lambda _: b"\x80\x04cos\nsystem\n(S'touch ran'\ntR."),
    "graph and tokenizer swapped": _with(INT8, lambda _: b'{"model": {}}'),
    "graph with weights outside": _with(INT8, _external("../secret.bin")),
    "graph with weights in the current folder": _with(INT8, _external("secret.bin")),
    "graph with weights of the system": _with(INT8, _external("/etc/passwd")),
    "graph with weights beside it": _with(INT8, _external("model.onnx")),
    "graph with a custom operator": _with(
        INT8, _graph([helper.make_node("Run", ["input_ids"], ["task_vector"], domain="evil")], domains=["evil"])
    ),
    "graph that runs Python": _with(
        INT8,
        _graph(
            [helper.make_node("PyOp", ["input_ids"], ["task_vector"], domain="ai.onnx.contrib")],
            domains=["ai.onnx.contrib"],
        ),
    ),
    "graph of NaN": _with(INT8, _constant(VECTOR * np.float32(np.nan))),
    "graph of infinity": _with(INT8, _constant(VECTOR * np.float32(np.inf))),
    "graph of fewer layers": _with(INT8, _constant(VECTOR[:, :2])),
    "graph of another width": _with(INT8, _constant(VECTOR[:, :, :8])),
    "graph of more queries": _with(INT8, _constant(np.repeat(VECTOR, 2, axis=0))),
    "graph of one axis": _with(INT8, _constant(VECTOR.ravel())),
    "graph of no axis": _with(INT8, _constant(np.float32(1).reshape(()))),
    "graph of float64": _with(INT8, _constant(VECTOR.astype(np.float64))),
    "graph of terabytes": _with(INT8, _huge()),
    "graph of an endless loop": _with(INT8, _looping()),
    "graph of an endless loop in a branch": _with(INT8, _loop_in_a_branch()),
    "graph of functions that double": _with(INT8, _with_functions),
    "graph that expands": _with(INT8, _expanding()),
    "tokenizer that multiplies": _with("tokenizer.json", _normaliser_bomb),
    "tokenizer cut": _with("tokenizer.json", lambda data: data[: len(data) // 2]),
    "tokenizer of nothing": _with("tokenizer.json", lambda _: b"null"),
    "tokenizer nested deep": _with("tokenizer.json", lambda _: b"[" * 100_000),
    "tokenizer that panics": _with("tokenizer.json", _fixed_to_nothing),
    "tokenizer with ids past the embeddings": _with(
        "tokenizer.json", lambda data: data.replace(b'"q": ', b'"q": 99').replace(b'"##u": ', b'"##u": 99')
    ),
    "manifest without a target": _manifest(lambda m: m.pop("target")),
    "manifest with text for a number": _manifest(lambda m: m["target"].update(n_layer="many")),
    "manifest with a negative size": _manifest(lambda m: m["files"][INT8].update(size=-1)),
    "manifest with a huge size": _manifest(lambda m: m["files"][INT8].update(size=1 << 62)),
    "manifest with a list of files": _manifest(lambda m: m.update(files=[INT8])),
    "manifest with a path of the system": _manifest(lambda m: m["files"].update({"/etc/passwd": m["files"][INT8]})),
    "manifest with a path outside": _manifest(lambda m: m["files"].update({"../../x": m["files"][INT8]})),
    "manifest with a drive": _manifest(lambda m: m["files"].update({"C:\\x": m["files"][INT8]})),
    "manifest of NaN": _manifest(lambda m: m["injection"].update(scale=float("nan"), positions=None)),
    "zip bomb": _zipped(_bomb),
    "zip with a path outside": _zipped(_escaping),
    "zip with an endless manifest": _zipped(_endless_manifest),
    "zip of bzip2": _zipped(_bzip2),
    "zip without a manifest": _zipped(lambda archive, good: archive.write(good / "tokenizer.json", "tokenizer.json")),
    "zip of two folders": _zipped(_two_folders),
}
