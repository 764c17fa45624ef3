"""Targets whose GGUF says more than transformers' reader takes from it: PyTorch's logits are llama.cpp's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from atv_local.errors import ModelError
from atv_local.target.target_file import TargetFile
from atv_train.examples.encoding import Example
from atv_train.frozen_target.weights import check_weights, load_target
from tests.tiny import write_gguf, write_gpt2

CPU = torch.device("cpu")
QUERY = "which of a fig and a cow has four legs and a tail"
MODELS: dict[str, Callable[[Path], Path]] = {
    "gpt2": write_gpt2,
    "gemma2": lambda path: write_gguf(path, architecture="gemma2"),
    "experts": lambda path: write_gguf(path, architecture="qwen3moe"),
    "rope linear": lambda path: write_gguf(path, rope={"type": "linear", "factor": 4.0}),
    "rope yarn": lambda path: write_gguf(path, rope={"type": "yarn", "factor": 8.0, "original": 64}),
    "rope factors": lambda path: write_gguf(path, rope={"factors": [1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0]}),
    "rope long": lambda path: write_gguf(
        path, rope={"type": "longrope", "original": 256, "short": [1.0, 1.5] * 4, "long": [9.0] * 8}
    ),
    "rope base": lambda path: write_gguf(path, rope={"base": 500.0}),
}


def example(path: Path) -> Example:
    return Example(0, QUERY, "", TargetFile.open(path).prompts(QUERY).tokens, ())


@pytest.mark.parametrize("name", MODELS)
def test_pytorch_reads_the_model_that_llama_cpp_reads(tmp_path: Path, name: str) -> None:
    path = MODELS[name](tmp_path / "model.gguf")
    check_weights(load_target(path, torch.float32, CPU), path, example(path))


@pytest.mark.parametrize("name", ["rope linear", "rope yarn", "rope factors", "rope base"])
def test_a_model_read_without_its_rope_is_refused(tmp_path: Path, tiny_gguf: Path, name: str) -> None:
    path = MODELS[name](tmp_path / "model.gguf")
    with pytest.raises(ModelError, match=r"cosine of 0\.\d+, less than 0.99"):
        check_weights(load_target(tiny_gguf, torch.float32, CPU), path, example(path))


def test_a_rope_scaling_that_is_unknown_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", rope={"type": "spiral", "factor": 4.0})
    with pytest.raises(ModelError, match="spiral"):
        load_target(path, torch.float32, CPU)


def test_a_reader_that_leaves_its_defaults_is_refused(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: LlamaConfig())
    with pytest.raises(ModelError, match="it reads 32 layers where the file has 4"):
        load_target(tiny_gguf, torch.float32, CPU)


def test_what_transformers_raises_is_one_sentence(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise IndexError("index 4 is out of bounds for axis 0 with size 4")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(ModelError, match="index 4 is out of bounds"):
        load_target(tiny_gguf, torch.float32, CPU)
