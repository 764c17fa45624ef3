"""The gate that training fits: thresholds, and that it steers the queries of the tasks and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from atv_export import export
from atv_local.answer import Engine
from atv_local.generator import MAX_TASKS, OUTSIDE_STEERED, VALID_RECALL, Generator
from atv_local.target import Target
from atv_train.examples import Example
from atv_train.gate_fit import fit_gate
from atv_train.job import TrainingJob
from atv_train.run_folder import load_checkpoint
from atv_train.trainer.losses import contrast
from atv_train.training_run import run_training
from atv_train.vector_sources import AdaptiveVectors


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


class OfLength:
    """States by the length of a query."""

    def eval(self) -> None:
        """Do nothing."""

    def pooled(self, queries: Sequence[str]) -> torch.Tensor:
        return torch.eye(16)[[len(query) for query in queries]]


def test_more_tasks_than_a_manifest_lists_are_one() -> None:
    rows = [Example(n, "x" * (1 + n % 8), f"task {n}", (1,), (2,)) for n in range(MAX_TASKS + 1)]
    source = cast("AdaptiveVectors", OfLength())
    fitted = fit_gate(source, rows, rows[:200], [], ["x" * 12], 0)
    assert fitted is not None
    (task,) = fitted.spec.tasks
    assert task.prototypes == len(fitted.prototypes) == 8
    assert fitted.metrics == {VALID_RECALL: 1, OUTSIDE_STEERED: 0}
    fewer = fit_gate(source, rows[:20], rows[:20], [], [], 0)
    assert fewer is not None
    assert [task.name for task in fewer.spec.tasks] == [row.task for row in rows[:20]]
