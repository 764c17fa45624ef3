"""Small random models, made in seconds, and the real pair that ships; every test runs offline."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from atv_local.answer.engine import Engine
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.names import embedded_model
from atv_local.target.target import Target

if TYPE_CHECKING:
    from atv_train.job import TrainingJob

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, would ignore it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for models this small, threads only wait for each other

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_gguf(
    path: Path,
    *,
    n_layer: int = 4,
    n_embd: int = 64,
    vocabulary: str = "",
    eos: int = 4,
    n_ctx: int = 512,
    template: str = TEMPLATE,
) -> Path:
    """A random Llama in float32 with a byte vocabulary, a few letters of `vocabulary` and a chat template."""
    rng = np.random.default_rng(0)
    n_head, n_head_kv, n_ff = 4, 2, 128
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz", *vocabulary]
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 4 + [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(n_embd // n_head)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32))

    add("token_embd.weight", len(tokens), n_embd)
    add("output.weight", len(tokens), n_embd)
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    for block in range(n_layer):
        for name, rows, columns in (
            ("attn_q", n_embd, n_embd),
            ("attn_k", n_embd // 2, n_embd),
            ("attn_v", n_embd // 2, n_embd),
            ("attn_output", n_embd, n_embd),
            ("ffn_gate", n_ff, n_embd),
            ("ffn_up", n_ff, n_embd),
            ("ffn_down", n_embd, n_ff),
        ):
            add(f"blk.{block}.{name}.weight", rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{name}.weight", np.ones(n_embd, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_backbone(folder: Path) -> Path:
    """A random two-layer BERT with a byte-level word list."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    pieces += [*letters, *(f"##{letter}" for letter in letters)]
    words = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random target: 4 layers of width 64."""
    return write_gguf(tmp_path_factory.mktemp("target") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random backbone of width 32."""
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows that a tiny model can learn: a fruit is `a`, a beast is `b`."""
    file = tmp_path_factory.mktemp("rows") / "kinds.jsonl"
    fruits, beasts = ["apple", "pear", "plum", "fig", "lime"], ["cat", "dog", "cow", "hen", "pig"]
    rows = [
        (f"{word} {n}", answer)
        for n in range(4)
        for a, b in zip(fruits, beasts, strict=True)
        for word, answer in ((a, "a"), (b, "b"))
    ]
    file.write_text("".join(f'{{"input": "{text}", "output": "{answer}"}}\n' for text, answer in rows))
    return file


@pytest.fixture(scope="session")
def tiny_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path
) -> Path:
    """A checkpoint trained until it knows its rows, by the code users run."""
    from atv_train.job import TrainingJob
    from atv_train.settings import TrainingSettings
    from atv_train.training_run import run_training

    output = tmp_path_factory.mktemp("checkpoint") / "tiny"
    settings = TrainingSettings(epochs=20, batch_size=8, learning_rate=2e-2, backbone_learning_rate=2e-3)
    job = TrainingJob(
        tiny_gguf, [tiny_rows], hold_out=False, backbone=str(tiny_backbone), max_query_tokens=64, settings=settings
    )
    run_training(job, output)
    return output


@pytest.fixture
def job(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path) -> TrainingJob:
    """Three epochs on those rows, with a tenth of them held out."""
    from atv_train.job import TrainingJob
    from atv_train.settings import TrainingSettings

    settings = TrainingSettings(epochs=3, batch_size=8, learning_rate=1e-2)
    return TrainingJob(tiny_gguf, [tiny_rows], backbone=str(tiny_backbone), max_query_tokens=64, settings=settings)


@pytest.fixture
def unrelated(tmp_path: Path) -> Path:
    """Queries outside the task."""
    file = tmp_path / "unrelated.txt"
    file.write_text("".join(f"say {n}\n" for n in range(24)))
    return file


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """That checkpoint, exported with both graphs."""
    from atv_export.export_bundle import export

    output = tmp_path_factory.mktemp("bundle") / "tiny"
    export(tiny_checkpoint, output)
    return output


@pytest.fixture(scope="session")
def tiny_generator(tiny_bundle: Path) -> Generator:
    """The exported generator in ONNX Runtime."""
    return Generator(Bundle(tiny_bundle))


@pytest.fixture
def target(tiny_gguf: Path) -> Target:
    """A fresh tiny target in llama.cpp."""
    return Target(tiny_gguf, n_threads=1)


@pytest.fixture
def engine(target: Target, tiny_generator: Generator) -> Engine:
    """The tiny target with its generator."""
    return Engine(target, tiny_generator)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The embedded default: SmolLM2-135M-Instruct, quantised."""
    return embedded_model()
