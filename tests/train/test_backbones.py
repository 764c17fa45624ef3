"""Backbones that read capitals, accents, emoji and other scripts: trained, exported, and run by the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ByT5Tokenizer, LongformerConfig, LongformerModel

from atv_export import export
from atv_export.graph import write_graph
from atv_export.verify_graph import Probes
from atv_local.errors import BundleError
from atv_local.generator import Bundle, Generator
from atv_train.run_folder import load_checkpoint
from atv_train.training import train
from atv_train.vector_sources.byte_tokenizer import byte_tokenizer
from atv_train.vector_sources.generator_module import GeneratorModule
from tests.tiny.readers import READERS

PAIRS = [("STOP", "stop"), ("ou 1", "où 1"), ("got it 👍", "got it 👎"), ("ฝนตก", "หัว")]
"""Each is one query to the default backbone."""


@pytest.mark.parametrize("name", READERS)
def test_what_the_default_cannot_tell_apart_is_read(name: str, tiny_gguf: Path, tmp_path: Path) -> None:
    rows = [{"input": text, "output": output} for pair in PAIRS for text, output in zip(pair, "ab", strict=True)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows * 2))
    result = train(
        file,
        tmp_path / "run",
        model=tiny_gguf,
        backbone=READERS[name](tmp_path / name),
        valid=[file],
        epochs=4,
        learning_rate=2e-2,
        backbone_learning_rate=5e-3,
    )
    assert not any("generator" in warning for warning in result.warnings), result.warnings
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    export(result, tmp_path / "bundle")  # which compares the graphs with PyTorch
    generator = Generator(Bundle(tmp_path / "bundle"))
    for pair in PAIRS:
        assert all(generator.read(text).complete for text in pair)
        one, other = (generator(text).array for text in pair)
        assert abs(one - other).max() > 0
    _, _, tokenizer = load_checkpoint(result.folder)
    assert [generator.read(row["input"]).ids for row in rows] == [
        tuple(tokenizer(row["input"])["input_ids"]) for row in rows
    ]


def test_a_backbone_whose_graph_does_not_run_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = LongformerConfig(vocab_size=300, max_position_embeddings=42, attention_window=8, **size)
    generator = GeneratorModule(LongformerModel(config, add_pooling_layer=False), 2, 4).eval()
    torch.nn.init.normal_(generator.expansion.weight)
    write_graph(generator, tmp_path / "model.onnx")
    probes = Probes(generator, byte_tokenizer(), "{query}", 40, ["a query", "and another one"])
    with pytest.raises(BundleError, match="backbone"):
        probes.check(tmp_path / "model.onnx")


def test_bytes_are_the_tokens_of_byt5() -> None:
    own, theirs = byte_tokenizer(), ByT5Tokenizer()
    for text in [
        "",
        " two  spaces\n\tand more ",
        "it's où 👍 ฝน",
        "".join(map(chr, range(300))),
        "\N{ZERO WIDTH JOINER}",
    ]:
        assert own(text)["input_ids"] == theirs(text)["input_ids"]
