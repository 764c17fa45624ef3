"""A bundle made by hand from docs/reference/bundle-format.md, with nothing of ours, loads and steers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf import GGUFReader
from onnx import TensorProto, helper, numpy_helper

import atv_local

TABLE = np.random.default_rng(0).normal(0, 20, (3, 3 * 64)).astype(np.float32)


def graph() -> bytes:
    """The row of the last word: [CLS]-less ids, a table, a reshape."""
    last = numpy_helper.from_array(np.array(-1, np.int64), "last")
    shape = numpy_helper.from_array(np.array([-1, 3, 64], np.int64), "shape")
    nodes = [
        helper.make_node("Gather", ["input_ids", "last"], ["id"], axis=1),
        helper.make_node("Gather", ["table", "id"], ["rows"], axis=0),
        helper.make_node("Reshape", ["rows", "shape"], ["task_vector"]),
        helper.make_node("Identity", ["attention_mask"], ["unused"]),
    ]
    axes = ["batch", "sequence"]
    made = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("task_vector", TensorProto.FLOAT, ["batch", 3, 64])],
        [last, shape, numpy_helper.from_array(TABLE, "table")],
    )
    return onnx.ModelProto.SerializeToString(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_int8.onnx"])
def test_it_loads_and_steers(tiny_gguf: Path, tmp_path: Path, name: str) -> None:
    words = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"?": 0, "one": 1, "two": 2}, "unk_token": "?"}}
    words |= {"pre_tokenizer": {"type": "Whitespace"}}
    contents = {name: graph(), "tokenizer.json": json.dumps(words).encode()}
    tokens = GGUFReader(tiny_gguf).fields["tokenizer.ggml.tokens"].contents()
    manifest = {
        "format_version": 1,
        "target": {
            "architecture": "llama",
            "n_layer": 4,
            "n_embd": 64,
            "vocabulary_sha256": hashlib.sha256(b"".join(token.encode() + b"\0" for token in tokens)).hexdigest(),
        },
        "generator": {"backbone": "a table", "pooling": "last", "max_tokens": 8},
        "injection": {"positions": "decode"},
        "files": {
            path: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in contents.items()
        },
        "of another program": {"may": "be here"},
    }
    for path, data in (contents | {"atv.json": json.dumps(manifest).encode()}).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    engine = atv_local.load(tiny_gguf, tmp_path)
    assert np.array_equal(engine.vector("one two").array.ravel(), TABLE[2])
    texts = {query: engine.answer(query, max_tokens=8).text for query in ("one", "two")}
    off = engine.answer("one", steering=atv_local.OFF, max_tokens=8).text
    assert len({*texts.values(), off}) == 3
