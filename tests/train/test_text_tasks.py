"""Runs on text: measured by loss, with answers to validation rows beside the wanted ones, and no accuracy."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from atv_cli.main import app
from atv_export.export_bundle import export
from atv_local.target import TargetFile
from atv_train import SampleAnswer, resume
from atv_train.examples import Example
from atv_train.job import TrainingJob
from atv_train.plan import TrainingPlan
from atv_train.run_folder import STATE, checkpoint
from atv_train.run_folder.curves import draw_curves
from atv_train.trainer import AnswerSampler, StepReport, sample_size
from atv_train.trainer.trainer_state import TrainerState
from atv_train.training_data import read_training_data
from atv_train.training_run import TrainingHooks, run_training

WEIGHTS = Path(checkpoint.CHECKPOINT) / checkpoint.WEIGHTS


def write(path: Path, text: int, labels: int = 0) -> Path:
    """Rows of a task `say` whose outputs differ, and of a task `kind` with two."""
    rows = [{"input": f"say {n}", "output": f"number {n}", "task": "say"} for n in range(text)]
    rows += [{"input": f"kind of {n}", "output": "ab"[n % 2], "task": "kind"} for n in range(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(metrics: dict[str, float]) -> set[str]:
    return {name.partition("/")[0].removeprefix("valid_") for name in metrics if name.startswith("valid_")}


def test_a_run_on_text_is_measured_by_loss_and_answers(job: TrainingJob, tmp_path: Path) -> None:
    job = replace(job, data=[write(tmp_path / "rows.jsonl", 40)], baselines=True)
    seen: list[Sequence[SampleAnswer]] = []
    plans: list[TrainingPlan] = []
    result = run_training(job, tmp_path / "out", TrainingHooks(on_samples=seen.append, on_plan=plans.append))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert result.measure == record["measure"] == plans[0].measure == "valid_loss"
    assert (plans[0].text_tasks, plans[0].tasks) == (1, 1)
    assert result.metrics == min(result.history, key=lambda metrics: metrics["valid_loss"])
    for metrics in [*lines(tmp_path / "out" / "metrics.jsonl"), *result.baselines.values()]:
        assert names(metrics) - {"exact"} == {"loss", "chrf"}
        assert 0 <= metrics["valid_chrf"] <= 100
    assert len(seen) == 3
    assert [sample.task for sample in seen[0]] == ["say"] * 4
    samples = lines(tmp_path / "out" / "samples.jsonl")
    assert [sample.pop("epoch") for sample in samples] == [1] * 4 + [2] * 4 + [3] * 4
    assert [SampleAnswer(**sample) for sample in samples] == [answer for epoch in seen for answer in epoch]
    assert {sample["wanted"] for sample in samples} <= {f"number {n}" for n in range(40)}

    export(tmp_path / "out", tmp_path / "bundle", precisions=["fp32"])
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "smallest loss per answer token" in card
    assert "accuracy" not in card
    assert f"valid_chrf: {result.metrics['valid_chrf']:.4g}" in card
    inspected = CliRunner().invoke(app, ["inspect", str(tmp_path / "bundle"), "--json"])
    assert '"measure": "valid_loss"' in inspected.stdout


def test_a_mixed_run_shows_both_and_is_measured_by_loss(job: TrainingJob, tmp_path: Path) -> None:
    seen: list[Sequence[SampleAnswer]] = []
    job = replace(job, data=[write(tmp_path / "rows.jsonl", 40, 40)])
    result = run_training(job, tmp_path / "out", TrainingHooks(on_samples=seen.append))
    assert result.measure == "valid_loss"
    metrics = result.metrics
    assert names(metrics) - {"exact"} == {"accuracy", "loss", "chrf"}
    assert metrics["valid_accuracy"] == metrics["valid_accuracy/kind"]
    assert metrics["valid_chrf"] == metrics["valid_chrf/say"]
    assert {"valid_accuracy/say", "valid_chrf/kind"}.isdisjoint(metrics)
    assert [sample.task for sample in seen[0][:3]] == ["say", "kind", "say"]
    assert len(seen[0]) == 5


def test_a_run_on_labels_has_no_metric_of_text(job: TrainingJob, tmp_path: Path) -> None:
    seen: list[Sequence[SampleAnswer]] = []
    result = run_training(job, tmp_path / "out", TrainingHooks(on_samples=seen.append))
    assert result.measure == "valid_accuracy"
    assert all(names(metrics) == {"accuracy", "loss"} for metrics in result.history)
    assert [len(samples) for samples in seen] == [3, 3, 3]
    assert {sample.wanted for sample in seen[0]} <= {"a", "b"}
    unmeasured = run_training(replace(job, hold_out=False), tmp_path / "all")
    assert unmeasured.measure is None
    assert not (tmp_path / "all" / "samples.jsonl").exists()


@pytest.mark.parametrize("killed_at", [6, 10])
def test_answering_changes_neither_training_nor_resuming(job: TrainingJob, tmp_path: Path, killed_at: int) -> None:
    job = replace(job, data=[write(tmp_path / "rows.jsonl", 40)])
    whole = run_training(job, tmp_path / "whole", save_seconds=0)
    blind = run_training(replace(job, hold_out=False, valid=[]), tmp_path / "blind", save_seconds=0)
    assert len(whole.history) == len(blind.history) == 3

    class Killed(BaseException):
        pass

    def on_step(progress: StepReport) -> None:
        if progress.step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        run_training(job, tmp_path / "out", TrainingHooks(on_step=on_step), save_seconds=0)
    with (tmp_path / "out" / "samples.jsonl").open("a") as file:  # of an epoch whose state was not saved
        file.write('{"epoch": 3, "task": "say"}\n')
    resumed = resume(tmp_path / "out")
    assert resumed.measure == "valid_loss"
    states = [load_file(tmp_path / name / STATE) for name in ("whole", "out")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "out" / WEIGHTS).read_bytes()
    assert lines(tmp_path / "whole" / "samples.jsonl") == lines(tmp_path / "out" / "samples.jsonl")


def test_the_command_shows_the_measure_and_three_answers(job: TrainingJob, tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", 40)
    rows = lines(data)
    rows[0] |= {"input": "say \x1b[2J 0"}
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--backbone", str(job.backbone), "--epochs", "1", "--valid", str(data)]
    command = ["train", "-m", str(job.model), str(data), "-o", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert "accuracy" not in result.stderr
    assert "\x1b" not in result.stderr
    assert "validation loss per token, since all outputs are text" in result.stderr
    assert "chrF" in result.stderr.splitlines()[-1]
    assert sum(line.startswith("  answer ") for line in result.stderr.splitlines()) == 3
    assert len(re.findall(r"wanted +number \d+\b", result.stderr)) == 3
    assert len(lines(tmp_path / "out" / "samples.jsonl")) == 8


def test_rows_held_out_count_when_a_task_is_judged(job: TrainingJob, tmp_path: Path) -> None:
    """Ten rows of five labels are labels, though nine of them are not."""
    rows = [{"input": f"{n}", "output": "abcde"[n % 5], "task": "few"} for n in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "valid.jsonl").write_text('{"input": "x", "output": "y", "task": "unseen"}\n')
    prompts = TargetFile.open(job.model).prompts
    held = read_training_data(replace(job, data=[tmp_path / "rows.jsonl"]), prompts)
    assert len(held.train.rows) == 9
    assert held.text_tasks == frozenset()
    unseen = replace(job, data=[tmp_path / "rows.jsonl"], valid=[tmp_path / "valid.jsonl"])
    assert read_training_data(unseen, prompts).text_tasks == {"unseen"}


def test_loss_decides_where_it_is_the_measure() -> None:
    history = [
        {"epoch": 1.0, "valid_accuracy": 0.9, "valid_loss": 0.4},
        {"epoch": 2.0, "valid_accuracy": 0.2, "valid_loss": 0.3},
        {"epoch": 3.0, "valid_accuracy": 0.8, "valid_loss": 0.5},
    ]
    assert TrainerState(history=history, measure="valid_loss").best is history[1]
    assert TrainerState(history=history, measure="valid_accuracy").best is history[0]
    assert TrainerState(history=[{"epoch": 1.0}, {"epoch": 2.0}], measure="valid_loss").best == {"epoch": 2.0}


@pytest.mark.parametrize(
    ("n_tasks", "told", "measure"),
    [(4, True, "valid_accuracy"), (5, False, "valid_accuracy"), (5, True, "valid_unseen_loss")],
)
def test_enough_told_tasks_that_are_not_trained_on_decide(
    job: TrainingJob, tmp_path: Path, n_tasks: int, told: bool, measure: str
) -> None:
    more = {"instruction": "Which letter?"} if told else {}
    places = [(n, m) for n in range(n_tasks) for m in range(4)]
    rows = [{"input": f"{n} {m}", "output": "ab"[m % 2], "task": f"new {n}", **more} for n, m in places]
    valid = tmp_path / "valid.jsonl"
    valid.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = [write(tmp_path / "rows.jsonl", 0, 40)]
    plans: list[TrainingPlan] = []
    job = replace(job, data=data, valid=[write(tmp_path / "known.jsonl", 0, 4), valid])
    result = run_training(job, tmp_path / "out", TrainingHooks(on_plan=plans.append))
    assert result.measure == plans[0].measure == measure
    if measure == "valid_unseen_loss":
        assert result.metrics == min(result.history, key=lambda metrics: metrics[measure])
        assert result.metrics[measure] != result.metrics["valid_loss"]
        export(tmp_path / "out", tmp_path / "bundle", precisions=["fp32"])
        assert "of tasks that were not trained on" in (tmp_path / "bundle" / "README.md").read_text()
    else:
        assert "valid_unseen_loss" not in result.metrics


def test_chrf_and_exact_are_means_over_text_tasks(tiny_gguf: Path) -> None:
    def example(n: int, task: str) -> Example:
        return Example(n, f"query {n}", task, (1, 2), (3,))

    valid = [example(n, "ab"[n % 2]) for n in range(90)] + [example(90, "label")]
    sampler = AnswerSampler(valid, {"a", "b"}, TargetFile.open(tiny_gguf).vocabulary)
    assert [e.task for e in sampler.examples[:4]] == ["a", "b", "label", "a"]
    assert len(sampler.examples) == 33
    right = SampleAnswer("a", "q", "find a file", "find a file")
    wrong = SampleAnswer("b", "q", "find a file", "find that")
    label = SampleAnswer("label", "q", "x", "y")
    metrics = sampler.metrics([right, wrong, label])
    assert metrics["chrf/a"] == pytest.approx(100)
    assert 0 < metrics["chrf/b"] < 100
    assert metrics["chrf"] == (metrics["chrf/a"] + metrics["chrf/b"]) / 2
    assert (metrics["exact"], metrics["exact/a"]) == (0.5, 1.0)
    referred = replace(wrong, references=("find a thing", "find that"))
    assert sampler.metrics([referred, referred, wrong])["chrf"] < sampler.metrics([referred])["chrf"] == 100
    assert sampler.metrics([referred])["exact"] == 1
    long = replace(wrong, wanted="list all files of a folder by size", answer="list all files by name")
    of_each = [sampler.metrics([answer])["chrf/b"] for answer in (wrong, long)]
    assert sampler.metrics([wrong, long])["chrf/b"] == pytest.approx(sum(of_each) / 2)  # as eval has it
    assert set(sampler.metrics([wrong])) == {"chrf", "chrf/b"}
    assert sampler.metrics([label]) == {}


def test_little_data_has_fewer_and_shorter_answers() -> None:
    """Decoding must take a small part of an epoch only."""
    sizes = [sample_size([Example(0, "", "t", (1, 2), (3,) * 10)] * n) for n in (0, 20, 800, 9000)]
    assert sizes == [(8, 24), (8, 24), (12, 32), (32, 64)]


@pytest.mark.parametrize(
    ("measured", "panels"),
    [
        ({}, 1),
        ({"valid_loss": 1.0, "valid_chrf": 30.0, "valid_chrf/$\\foo$": 30.0}, 2),
        (
            {
                "valid_loss": 1.0,
                "valid_accuracy": 0.5,
                "valid_chrf": 30.0,
                "valid_chrf/x": 3.0,
                "valid_accuracy/y": 1.0,
            },
            2,
        ),
    ],
)
def test_curves_have_a_panel_for_what_is_measured(tmp_path: Path, measured: dict[str, float], panels: int) -> None:
    history = [{"epoch": n, "loss": 1 / n} | measured for n in (1.0, 2.0)]
    assert draw_curves(history, tmp_path / "curves.png")
    width = int.from_bytes((tmp_path / "curves.png").read_bytes()[16:20], "big")
    assert width == 540 * panels
