"""Training through a rope-scaled model and one with LayerNorm: llama.cpp answers as PyTorch does in validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import atv_local
from atv_export import export
from atv_train import train
from tests.tiny import write_gguf, write_gpt2

MODELS: dict[str, Callable[[Path], Path]] = {
    "gpt2": write_gpt2,
    "rope yarn": lambda path: write_gguf(path, rope={"type": "yarn", "factor": 8.0, "original": 64}),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_accuracy_through_llama_cpp_is_that_of_pytorch(
    tmp_path: Path, tiny_rows: Path, tiny_backbone: Path, name: str
) -> None:
    model = MODELS[name](tmp_path / "model.gguf")
    result = train(
        tiny_rows,
        tmp_path / "run",
        model=model,
        valid=[tiny_rows],
        backbone=tiny_backbone,
        epochs=20,
        batch_size=8,
        learning_rate=2e-2,
        backbone_learning_rate=2e-3,
        patience=20,
    )
    accuracy = result.metrics["valid_accuracy"]
    report = export(result, tmp_path / "bundle", precisions="fp32", model=model)
    assert report.logits["fp32"].cosine > 0.999
    rows = [json.loads(line) for line in tiny_rows.read_text().splitlines()]
    with atv_local.load(model, tmp_path / "bundle", n_threads=1) as engine:
        all_steered = replace(engine.steering, gate=0.0)
        answers = [engine.answer(row["input"], steering=all_steered, max_tokens=4).text for row in rows]
    right = [answer == row["output"] for answer, row in zip(answers, rows, strict=True)]
    assert sum(right) / len(rows) == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.9
