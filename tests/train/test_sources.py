"""What gives the vectors: every kind of generator, its terms of training, and the baselines it is measured against."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import atv_local
from atv_eval.eval_task import Task
from atv_eval.learned_vectors import with_learned_vectors
from atv_export.export_bundle import export
from atv_local.data import Row
from atv_local.errors import ModelError
from atv_local.generator import Pooling
from atv_local.vectors import Positions, read_control_vector
from atv_train.examples import Example
from atv_train.job import TrainingJob
from atv_train.run_folder import checkpoint
from atv_train.trainer.baselines import save_static_vectors
from atv_train.trainer.losses import mean_kl
from atv_train.training_run import TrainingHooks, run_training
from atv_train.vector_sources.backbone import load_backbone
from atv_train.vector_sources.generator_module import GeneratorModule
from atv_train.vector_sources.sources import (
    AdaptiveVectors,
    StaticVectors,
    averaged_vectors,
    random_vectors,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("change", [{"tuning": "lora"}, {"tuning": "frozen"}, {"rank": 4}, {"layers": (2, 3)}])
def test_every_kind_of_generator_learns_exports_and_answers(job: TrainingJob, tmp_path: Path, change: dict) -> None:
    settings = replace(job.settings, epochs=12, learning_rate=2e-2, backbone_learning_rate=1e-2)
    losses: list[float] = []
    hooks = TrainingHooks(on_epoch=lambda metrics: losses.append(metrics["loss"]))
    run_training(replace(job, hold_out=False, settings=settings, **change), tmp_path / "out", hooks)
    assert losses[-1] < 0.8 * losses[0]
    export(tmp_path / "out", tmp_path / "bundle", precisions=["fp32"])
    engine = atv_local.load(job.model, tmp_path / "bundle")
    vector = engine.vector("fig 2")
    assert (vector.array[0] == 0).all() == ("layers" in change)
    _, generator, tokenizer = checkpoint.load_checkpoint(tmp_path / "out")
    expected = AdaptiveVectors(generator, tokenizer, 64)([Example(0, "fig 2", "", (1, 2), (3,))])[0].detach().numpy()
    assert np.allclose(vector.array, expected, atol=1e-5 * np.abs(expected).max())
    assert not np.array_equal(vector.array, engine.vector("hen 2").array)


def test_merged_lora_is_the_trained_generator(tiny_backbone: Path) -> None:
    backbone, tokenizer = load_backbone(str(tiny_backbone))
    source = AdaptiveVectors(GeneratorModule(backbone, 3, 64), tokenizer, 64, "lora").eval()
    for parameter in source.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    rows = [Example(0, "apple", "", (1, 2), (3,))]
    merged = AdaptiveVectors(source.merged().eval(), tokenizer, 64)
    assert torch.allclose(source(rows), merged(rows), atol=1e-5)
    assert source(rows).abs().max() > 0


def test_do_no_harm_keeps_unrelated_answers(job: TrainingJob, unrelated: Path, tmp_path: Path) -> None:
    settings = replace(job.settings, epochs=15, learning_rate=2e-2, strength_range=(0.0, 2.0))
    harm = {}
    for weight in (1e-9, 5.0):
        kept: list[dict[str, float]] = []
        changed = replace(job, unrelated=unrelated, settings=replace(settings, harmless=weight))
        run_training(changed, tmp_path / str(weight), TrainingHooks(on_epoch=kept.append))
        harm[weight] = kept[-1]["unrelated_kl"]
        assert 0 <= kept[-1]["unrelated_agreement"] <= 1
    assert harm[5.0] < harm[1e-9] / 2


def test_the_measure_of_divergence() -> None:
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    assert float(mean_kl(logits, logits)) == pytest.approx(0, abs=1e-6)
    assert float(mean_kl(logits, logits.roll(1, dims=1))) > 0.1


def test_baselines_are_measured_and_written(job: TrainingJob, tmp_path: Path) -> None:
    found: dict[str, dict[str, float]] = {}
    job = replace(job, baselines=True, hold_out=False, valid=job.data, settings=replace(job.settings, epochs=8))
    run_training(
        replace(job, settings=replace(job.settings, learning_rate=2e-2)),
        tmp_path / "out",
        TrainingHooks(on_baseline=found.__setitem__),
    )
    assert set(found) == {"adaptive", "averaged", "random", "none", "per-task", "static"}
    assert found["adaptive"]["valid_loss"] < found["averaged"]["valid_loss"] < found["none"]["valid_loss"]
    assert found["static"]["valid_loss"] < found["none"]["valid_loss"]
    files = sorted(path.name for path in (tmp_path / "out" / "baselines").glob("*.gguf"))
    assert files == ["averaged.gguf", "per-task.gguf", "static.gguf"]
    assert read_control_vector(tmp_path / "out" / "baselines" / "static.gguf").vector(3).array.any()


def test_eval_finds_the_learned_vector_of_each_task(tmp_path: Path) -> None:
    names = ["two (to)", "stra\N{LATIN SMALL LETTER SHARP S}e", "x" * 90]
    source = StaticVectors(names, (2, 4))
    for index in range(len(names)):
        source.vectors.data[index] = index + 1
    model = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    target = SimpleNamespace(model=model, positions=Positions.LAST, n_vectors=1, n_rows=2)
    save_static_vectors(source, tmp_path, "per-task", target)  # type: ignore[arg-type]  # all that it reads
    rows = [Row(input="q", output="a text")]
    tasks = with_learned_vectors([Task.of(name, rows, []) for name in names], tmp_path)
    assert [float(task.learned.vector().array[0, 0]) for task in tasks if task.learned] == [1, 2, 3]


def test_baselines_steer_the_layers_that_the_generator_steers(job: TrainingJob, tmp_path: Path) -> None:
    run_training(replace(job, baselines=True, layers=(2, 3)), tmp_path / "out")
    for file in (tmp_path / "out" / "baselines").glob("*.gguf"):
        norms = np.linalg.norm(read_control_vector(file).vector(3).array, axis=-1)
        assert norms[0] == 0 < min(norms[1:]), file.name


def test_stopping_works_while_baselines_are_trained(job: TrainingJob, tmp_path: Path) -> None:
    epochs: list[object] = []
    asked: list[None] = []  # after the last epoch

    def stopped() -> bool:
        asked.extend([None] * (len(epochs) == job.settings.epochs))
        return len(asked) > 3

    run_training(replace(job, baselines=True), tmp_path / "out", TrainingHooks(on_epoch=epochs.append, stopped=stopped))
    assert len(epochs) == job.settings.epochs
    assert not (tmp_path / "out" / "baselines").exists()
    checkpoint.load_checkpoint(tmp_path / "out")


def test_averaged_and_random_vectors(trained_checkpoint: Path) -> None:
    _, generator, tokenizer = checkpoint.load_checkpoint(trained_checkpoint)
    source = AdaptiveVectors(generator, tokenizer, 64)
    rows = [Example(n, text, task, (1, 2), (3,)) for n, (text, task) in enumerate([("a", "x"), ("b", "x"), ("c", "y")])]
    mean = averaged_vectors(source, rows)
    vectors = source(rows)
    assert torch.allclose(mean(rows[:1])[0], vectors[:2].mean(dim=0), atol=1e-6)
    noise = random_vectors(mean, 0)
    assert torch.allclose(noise.vectors.norm(dim=-1), mean.vectors.norm(dim=-1), atol=1e-5)
    assert torch.cosine_similarity(noise.vectors.flatten(1), mean.vectors.flatten(1)).abs().max() < 0.5


@pytest.mark.parametrize("pooling", ["mean", "last", "mix"])
def test_a_small_llama_is_a_backbone_too(
    job: TrainingJob, tiny_backbone: Path, tmp_path: Path, pooling: Pooling
) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(tmp_path / "llama")
    brief = replace(job, backbone=str(tmp_path / "llama"), pooling=pooling, settings=replace(job.settings, epochs=1))
    run_training(brief, tmp_path / "out")
    export(tmp_path / "out", tmp_path / "bundle", precisions=["fp32"])
    assert atv_local.load(job.model, tmp_path / "bundle").vector("apple").array.any()


def test_static_vectors_do_not_see_the_query() -> None:
    static = StaticVectors(["x", "y"], (3, 8))
    torch.nn.init.normal_(static.vectors)
    rows = [Example(n, text, task, (1, 2), (3,)) for n, (text, task) in enumerate([("a", "x"), ("b", "x"), ("a", "z")])]
    vectors = static(rows)
    assert torch.equal(vectors[0], vectors[1])
    assert torch.allclose(vectors[2], static.vectors.mean(dim=0))


@pytest.mark.parametrize("evil", ["code", "pickle"])
def test_a_strangers_backbone_runs_nothing(tiny_backbone: Path, tmp_path: Path, evil: str) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "evil")
    if evil == "code":
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    else:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="evil"):
        load_backbone(str(folder))
    assert not (tmp_path / "ran").exists()
