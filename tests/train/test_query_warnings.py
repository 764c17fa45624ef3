"""What `train` says of queries that the generator does not read as they are, and how far it can be made to read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

from atv_local.errors import UsageError
from atv_train.job import TrainingJob
from atv_train.run_folder import load_checkpoint
from atv_train.training import train
from atv_train.training_parts import prepare_training
from atv_train.vector_sources.backbone import position_limit, query_limit

SAME = "the same words over and over " * 4
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16, "vocab_size": 9}


def warnings(job: TrainingJob, folder: Path, rows: list[tuple[str, str]]) -> list[str]:
    file = folder / "task.jsonl"
    file.write_text("".join(json.dumps({"input": text, "output": output}) + "\n" for text, output in rows))
    parts = prepare_training(replace(job, data=[file]), Accelerator(cpu=True), folder)
    return [text for text in parts.plan.warnings if "generator" in text]


def test_all_that_is_not_read_is_counted_before_training(job: TrainingJob, tmp_path: Path) -> None:
    rows = [(f"{SAME}{n} {end}", end) for n in "abcdef" for end in ("refund", "shipping")]
    rows += [(f"{word} {face}", mood) for word in "abcd" for face, mood in (("👍", "glad"), ("👎", "cross"))]
    rows += [("STOP", "loud"), ("stop", "calm")]
    cut, unknown, alike = warnings(job, tmp_path, rows)
    assert "64 tokens" in cut
    assert "12 of 22 queries" in cut
    assert "`max_query_tokens`" in cut
    assert "8 of 22 queries" in unknown
    assert "22 of 22 rows" in alike
    assert "`backbone`" in alike


def test_a_wording_counts_as_what_is_read(job: TrainingJob, tmp_path: Path) -> None:
    job = replace(job, templates={"*": [f"{SAME}{SAME}{{input}}"]}, max_query_tokens=None)
    cut, alike = warnings(job, tmp_path, [(f"{word} {n}", word) for word in ("apple", "cow") for n in range(8)])
    assert "16 of 16 queries" in cut
    assert "`backbone` that reads more" in cut  # the tiny one has no more positions
    assert "16 of 16 rows" in alike


def test_rows_that_are_read_whole_are_passed_over(job: TrainingJob, tmp_path: Path) -> None:
    rows = [(f"{word} {n}", word) for word in ("apple", "cow") for n in range(8)]
    assert warnings(job, tmp_path, rows) == []


def test_the_window_is_an_option(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path) -> None:
    settings = {"model": tiny_gguf, "backbone": tiny_backbone, "epochs": 1}
    result = train(tiny_rows, tmp_path / "run", max_query_tokens=128, **settings)
    spec, _, _ = load_checkpoint(result.folder)
    assert spec.generator.max_tokens == 128
    with pytest.raises(UsageError, match="`max_query_tokens` 129 is above 128"):
        train(tiny_rows, tmp_path / "more", max_query_tokens=129, **settings)
    with pytest.raises(UsageError, match="`max_query_tokens`"):
        train(tiny_rows, tmp_path / "less", max_query_tokens=2, **settings)


def test_positions_that_a_backbone_has() -> None:
    bert = BertModel(BertConfig(**TINY, max_position_embeddings=40))
    roberta = RobertaModel(RobertaConfig(**TINY, max_position_embeddings=42, pad_token_id=1))
    gpt2 = GPT2Model(GPT2Config(n_positions=40, n_embd=16, n_layer=1, n_head=1, vocab_size=9))
    assert [position_limit(model) for model in (bert, roberta, gpt2)] == [40, 40, 40]
    assert query_limit(bert) == 40
    assert query_limit(bert, 30) == 30
    import torch

    for model in (bert, roberta, gpt2):
        model(input_ids=torch.full((1, 40), 5))
