"""The gate that training fits: thresholds, and that it steers the queries of the tasks and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atv_export import export
from atv_local.answer import Engine
from atv_local.generator import OUTSIDE_STEERED, VALID_RECALL, Generator
from atv_local.target import Target
from atv_train.gate_fit import fit_gate
from atv_train.job import TrainingJob
from atv_train.run_folder import load_checkpoint
from atv_train.trainer.losses import contrast
from atv_train.training_run import run_training


def test_states_of_a_label_are_drawn_together_and_those_outside_are_not() -> None:
    one = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    labels, none = ["a", "a", "b", "b"], torch.zeros(0, 16)
    apart, mixed = torch.cat([one, one, -one, -one]), torch.cat([one, -one, one, -one])
    assert float(contrast(apart, labels, none)) < 0.01 < 1 < float(contrast(mixed, labels, none))
    assert float(contrast(apart, ["a", "b", "c", "d"], none)) == 0
    assert float(contrast(apart, labels, one)) > 0.1


def test_a_trained_bundle_steers_its_task_and_leaves_other_queries_alone(
    job: TrainingJob, unrelated: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    settings = replace(job.settings, epochs=12, contrastive=1.0, learning_rate=2e-2, backbone_learning_rate=2e-3)
    run_training(replace(job, unrelated=unrelated, settings=settings), tmp_path / "run")
    metrics = load_checkpoint(tmp_path / "run")[0].provenance.metrics
    assert metrics[VALID_RECALL] >= 0.75  # of four rows
    assert metrics[OUTSIDE_STEERED] == 0
    assert "valid_loss" in metrics
    export(tmp_path / "run", tmp_path / "bundle", precisions="int8")
    assert "measured in training" in (tmp_path / "bundle" / "README.md").read_text()
    with Engine(Target(tiny_gguf, n_threads=1), Generator(tmp_path / "bundle", tried=True)) as engine:
        steered = {
            query: engine.gated_vector(query).vector is not None for query in ("pear 2", "cow 1", "say 3", "say 23")
        }
    assert steered == {"pear 2": True, "cow 1": True, "say 3": False, "say 23": False}


def test_a_run_without_validation_rows_has_no_gate(trained_checkpoint: Path) -> None:
    spec, _, _ = load_checkpoint(trained_checkpoint)
    assert spec.gate is None
    assert spec.format_version == 1


def test_a_finished_run_is_not_fitted_again(job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(job, settings=replace(job.settings, epochs=1, contrastive=0.3))
    run_training(job, tmp_path / "run")
    before = load_checkpoint(tmp_path / "run")[0].gate
    monkeypatch.setattr("atv_train.training_run.fit_gate", lambda *_: pytest.fail("fitted again"))
    from atv_train.training import resume

    resume(tmp_path / "run")
    assert before is not None
    assert load_checkpoint(tmp_path / "run")[0].gate == before


def test_no_gate_without_validation_examples() -> None:
    assert fit_gate(None, [], [], [], [], 0) is None  # type: ignore[arg-type]  # nothing is read
