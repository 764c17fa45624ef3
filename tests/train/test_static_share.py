"""Training with a static vector for a share of the rows: it steers by itself, and the bundle has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import atv_local
import atv_train
from atv_export import export
from atv_local.errors import UsageError
from atv_local.generator import STATIC, Bundle
from atv_train.examples import Example
from atv_train.run_folder import load_checkpoint
from atv_train.vector_sources import AdaptiveVectors

LEARNS = {"epochs": 12, "batch_size": 8, "learning_rate": 2e-2, "backbone_learning_rate": 2e-3}


def same_answer(path: Path) -> Path:
    """Rows of which one vector can answer all."""
    path.write_text("".join(f'{{"input": "{word} {n}", "output": "a"}}\n' for word in ("fig", "cow") for n in range(9)))
    return path


@pytest.mark.parametrize("options", [{}, {"rank": 4}, {"prompt_vector": True, "layers": "2-3"}], ids=str)
def test_it_steers_by_itself(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, options: dict[str, object]) -> None:
    rows = same_answer(tmp_path / "rows.jsonl")
    result = atv_train.train(
        rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, static_share=0.5, **LEARNS | options
    )
    assert atv_train.resume(result.folder).history == result.history
    export(result, tmp_path / "bundle", precisions="fp32", model=tiny_gguf)
    _, generator, _ = load_checkpoint(result.folder)
    with atv_local.load(tiny_gguf, tmp_path / "bundle", n_threads=1) as engine:
        static = engine.generators[0].static
        assert static is not None
        parts = [static.array] if static.prompt is None else [static.array, static.prompt.array]
        assert np.concatenate(parts) == pytest.approx(generator.static().detach().numpy(), abs=1e-6)
        how = atv_local.Steering(positions=engine.steering.positions, layers=engine.steering.layers)
        assert engine.answer("what is this", vector=static, steering=how, max_tokens=4).text.endswith("a")
        assert "a" not in engine.answer("what is this", steering=atv_local.OFF, max_tokens=4).text


def test_the_share_is_drawn_in_training_only(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    rows = same_answer(tmp_path / "rows.jsonl")
    result = atv_train.train(
        rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, static_share=0.5, epochs=1, batch_size=8
    )
    spec, generator, tokenizer = load_checkpoint(result.folder)
    assert (spec.static, spec.format_version) == (True, 4)
    source = AdaptiveVectors(generator, tokenizer, 16, static_share=0.5)
    examples = [Example(n, f"fig {n}", "t", (1, 2), (3,)) for n in range(200)]
    torch.manual_seed(0)
    with torch.no_grad():
        trained, static = source.train()(examples), generator.static()
        share = float((trained == static).all(dim=(1, 2)).float().mean())
        assert share == pytest.approx(0.5, abs=0.12)
        assert not (source.eval()(examples) == static).all(dim=(1, 2)).any()


def test_a_bundle_without_has_no_file(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    rows = same_answer(tmp_path / "rows.jsonl")
    result = atv_train.train(rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, epochs=1, batch_size=8)
    export(result, tmp_path / "bundle", precisions="fp32")
    assert STATIC not in Bundle(tmp_path / "bundle").manifest.files
    with pytest.raises(UsageError, match="static_share"):
        atv_train.train(rows, tmp_path / "x", model=tiny_gguf, backbone=tiny_backbone, static_share=1.0)
