"""The loop: resumable bit for bit, the same on several processes, planned and bounded, its best epoch kept."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local import Positions
from atv_local.data.rows import read_rows
from atv_local.errors import BundleError, DataError, ModelError, NotFoundError
from atv_train.examples import Example
from atv_train.frozen_target.frozen_target import FrozenTarget
from atv_train.frozen_target.weights import load_target
from atv_train.job import TrainingJob
from atv_train.plan import TrainingPlan
from atv_train.run_folder import checkpoint
from atv_train.run_folder.folder import RUN, STATE
from atv_train.trainer import StepReport, Trainer
from atv_train.trainer.trainer_state import TrainerState
from atv_train.trainer.training_settings import TrainingSettings, default_batch_size, default_epochs
from atv_train.training import resume
from atv_train.training_run import TrainingHooks, run_training
from atv_train.vector_sources.sources import StaticVectors, Tuning

CPU = torch.device("cpu")
WEIGHTS = Path(checkpoint.CHECKPOINT) / checkpoint.WEIGHTS


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


class Killed(BaseException):
    """Ends a run at once, as a signal would, before anything more is written."""


@pytest.mark.parametrize("killed_at", [2, 5, 7])
@pytest.mark.parametrize("tuning", ["full", "lora", "frozen"])
def test_a_killed_run_continues_bit_for_bit(
    job: TrainingJob, unrelated: Path, tmp_path: Path, killed_at: int, tuning: Tuning
) -> None:
    job = replace(
        job, tuning=tuning, unrelated=unrelated, settings=replace(job.settings, harmless=0.5, strength_range=(0.5, 2.0))
    )
    whole = run_training(job, tmp_path / "whole", save_seconds=0).metrics

    def on_step(progress: StepReport) -> None:
        if progress.step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        run_training(job, tmp_path / "out", TrainingHooks(on_step=on_step), save_seconds=0)
    steps: list[int] = []
    resumed = resume(tmp_path / "out", TrainingHooks(on_step=lambda report: steps.append(report.step))).metrics
    assert steps[0] == killed_at  # the step that was not saved is taken again
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "out" / WEIGHTS).read_bytes()
    states = [load_file(tmp_path / name / STATE) for name in ("whole", "out")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert {k: v for k, v in whole.items() if k != "seconds"} == {k: v for k, v in resumed.items() if k != "seconds"}


def test_kill_9_and_resume_from_the_command_line(job: TrainingJob, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "atv_cli", "train", "-m", job.model, *job.data, "-o", output]
    options = ["--backbone", job.backbone, "--epochs", "400", "--patience", "1000"]
    process = subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (output / STATE).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with safe_open(output / STATE, framework="pt") as file:
        before = json.loads(file.metadata()["progress"])["epoch"]
    assert 0 < before < 400
    seen: list[float] = []
    resume(
        output, TrainingHooks(on_epoch=lambda metrics: seen.append(metrics["epoch"]), stopped=lambda: len(seen) == 2)
    )
    assert seen == [before + 1, before + 2]
    checkpoint.load_checkpoint(output)


def test_a_terminated_run_leaves_nothing_beside_its_output(job: TrainingJob, tmp_path: Path) -> None:
    output = tmp_path / "folder" / "out"
    command = [sys.executable, "-m", "atv_cli", "train", "-m", job.model, *job.data, "-o", output]
    options = ["--backbone", job.backbone, "--epochs", "400", "--patience", "1000"]
    process = subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not output.exists() and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert list(output.parent.iterdir()) == [output]
    checkpoint.load_checkpoint(output)


def test_a_finished_run_resumes_to_nothing(job: TrainingJob, tmp_path: Path) -> None:
    run_training(job, tmp_path / "out")
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    result = cli("--resume", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == before


def test_resume_says_what_is_wrong(job: TrainingJob, tmp_path: Path) -> None:
    run_training(job, tmp_path / "out")
    cases: list[tuple[int, list[object], str]] = [
        (1, ["--resume", tmp_path / "absent"], "absent"),
        (2, ["--resume", tmp_path / "out", "--epochs", 9], "leave out --epochs"),
        (2, ["-m", job.model, "-o", tmp_path / "x"], "a file of rows"),
        (2, [job.data[0]], "-o FOLDER"),
    ]
    for code, arguments, words in cases:
        result = cli(*arguments)
        assert (result.exit_code, result.stdout) == (code, ""), result.stderr
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    changed = replace(job, data=[tmp_path / "mine.jsonl"])
    (tmp_path / "mine.jsonl").write_bytes(job.data[0].read_bytes())
    run_training(changed, tmp_path / "mine")
    (tmp_path / "mine.jsonl").write_text('{"input": "x", "output": "y"}\n' * 3)
    with pytest.raises(DataError, match="has changed"):
        resume(tmp_path / "mine")
    for name in (RUN, STATE):
        file = tmp_path / "out" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BundleError, match="damaged"):
            resume(tmp_path / "out")
        file.write_bytes(whole)
    with safe_open(tmp_path / "out" / STATE, framework="pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in list(opened.keys())}
    progress = json.loads(metadata["progress"])
    moment = next(name for name in tensors if name.startswith("moment") and name.endswith("avg"))
    for change, changed in (
        ({"history": [{}] * 3}, tensors),
        ({"step": -3}, tensors),
        ({"epoch": 1}, tensors),
        ({}, tensors | {moment: torch.zeros(1)}),
        ({}, {name: tensor for name, tensor in tensors.items() if not name.startswith("moment")}),
    ):
        save_file(changed, tmp_path / "out" / STATE, metadata={"progress": json.dumps(progress | change)})
        with pytest.raises(BundleError, match="damaged"):
            resume(tmp_path / "out")
    (tmp_path / "out" / STATE).unlink()
    record = json.loads((tmp_path / "out" / RUN).read_text())
    for key, value in (("batch_size", -5), ("learning_rate", -1), ("seed", 1 << 40), ("patience", 0)):
        settings = record["job"]["settings"] | {key: value}
        (tmp_path / "out" / RUN).write_text(json.dumps(record | {"job": record["job"] | {"settings": settings}}))
        with pytest.raises(BundleError, match=key):
            resume(tmp_path / "out")


def still(backbone: Path, folder: Path) -> Path:
    """A copy without dropout, whose noise would differ by process."""
    shutil.copytree(backbone, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def launched(processes: int) -> list[object]:
    """The start of a command that runs on this many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes]
    return [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]


def test_two_processes_give_the_gradient_of_the_whole_batch(
    tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    backbone = still(tiny_backbone, tmp_path / "still")
    script = Path(__file__).with_name("gradient_of_a_batch.py")
    gradients = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.safetensors"
        start = launched(2) if processes == 2 else [sys.executable]
        command = [*start, script, tiny_gguf, backbone, output]
        done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        gradients.append(load_file(output))
    one, two = gradients
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], rtol=1e-3, atol=1e-6), name


def test_two_processes_train_as_one_with_the_doubled_batch(job: TrainingJob, tmp_path: Path) -> None:
    backbone = still(Path(str(job.backbone)), tmp_path / "still")
    options = ["-m", "atv_cli", "train", "-m", job.model, *job.data, "--backbone", backbone, "--epochs", 2]
    options += ["--dtype", "float32"]  # rounding to bfloat16 depends on the batch
    options += ["--contrastive", 0]  # each process compares the rows of its own share
    histories, answered = [], []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        start = launched(2) if processes == 2 else [sys.executable]
        command = [*start, *options, "-o", output, "--batch-size", 8 // processes]
        done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{output}\n"
        histories.append([json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()])
        samples = [json.loads(line) for line in (output / "samples.jsonl").read_text().splitlines()]
        answered.append([(sample["epoch"], sample["query"], sample["wanted"]) for sample in samples])
    assert answered[0] == answered[1] != []
    for a, b in zip(*histories, strict=True):
        assert a.pop("seconds") > 0 < b.pop("seconds")
        assert a == pytest.approx(b, rel=1e-3)


def test_weights_stand_in_for_the_gguf_only_if_they_are_its_own(job: TrainingJob, tmp_path: Path) -> None:
    model = load_target(job.model, torch.float32, CPU)
    model.save_pretrained(tmp_path / "own")
    run_training(replace(job, weights=str(tmp_path / "own")), tmp_path / "out")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="not those of"):
        run_training(replace(job, weights=str(tmp_path / "other")), tmp_path / "no")
    with pytest.raises(NotFoundError, match="absent"):
        run_training(replace(job, weights=str(tmp_path / "absent")), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_model_in_parts_is_to_be_merged(tmp_path: Path) -> None:
    """The first part has all metadata, and transformers would load it."""
    for number in (1, 2, 3):
        (tmp_path / f"m-0000{number}-of-00003.gguf").touch()
    with pytest.raises(ModelError, match=r"3 parts.*--merge m-00001-of-00003.gguf m.gguf"):
        load_target(tmp_path / "m-00001-of-00003.gguf", torch.float32, CPU)


def test_a_tasks_name_may_be_any_text(job: TrainingJob, tmp_path: Path) -> None:
    """Names reach metrics, a picture that reads $ as mathematics, and the terminal."""
    (tmp_path / "rows.jsonl").write_text(
        "".join(
            json.dumps({"input": f"{name} {n}", "output": "a", "task": name}) + "\n"
            for name in ("loss", "accuracy", "$\\foo$", "\x1b[2J")
            for n in range(3)
        )
    )
    options = ["--backbone", job.backbone, "--epochs", 1, "--valid", tmp_path / "rows.jsonl"]
    result = cli("-m", job.model, tmp_path / "rows.jsonl", "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert {"valid_accuracy/loss", "valid_accuracy/accuracy", "valid_loss", "valid_accuracy"} <= metrics.keys()


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"), [(1, 4, 15), (40, 4, 15), (300, 32, 15), (1800, 32, 11), (90_000, 32, 3)]
)
def test_defaults_follow_the_number_of_rows(rows: int, batch: int, epochs: int) -> None:
    assert (default_batch_size(rows), default_epochs(rows, batch)) == (batch, epochs)


def test_the_best_epoch_is_kept_and_training_stops_without_progress(job: TrainingJob, tmp_path: Path) -> None:
    """At a rate that ruins what was learned, later epochs are worse; the checkpoint is not theirs."""
    settings = replace(job.settings, epochs=40, patience=2, learning_rate=0.5, backbone_learning_rate=0.1, warmup=0.0)
    seen: list[dict[str, float]] = []
    best = run_training(replace(job, settings=settings), tmp_path / "out", TrainingHooks(on_epoch=seen.append)).metrics
    assert len(seen) < 40
    assert best["valid_accuracy"] == max(metrics["valid_accuracy"] for metrics in seen)
    spec, _, _ = checkpoint.load_checkpoint(tmp_path / "out")
    assert spec.provenance.metrics["valid_accuracy"] == best["valid_accuracy"]
    assert spec.provenance.epochs == best["epoch"] == seen[-1]["epoch"] - 2


def test_ties_in_accuracy_go_to_the_smaller_loss() -> None:
    history = [
        {"epoch": 1.0, "valid_accuracy": 0.5, "valid_loss": 0.1},
        {"epoch": 2.0, "valid_accuracy": 0.8, "valid_loss": 0.4},
        {"epoch": 3.0, "valid_accuracy": 0.8, "valid_loss": 0.3},
        {"epoch": 4.0, "valid_accuracy": 0.8, "valid_loss": 0.5},
    ]
    state = TrainerState(history=history)
    assert (state.best, state.stale()) == (history[2], 1)


def test_the_plan_is_said_before_training(job: TrainingJob, tmp_path: Path) -> None:
    plans: list[TrainingPlan] = []
    order: list[str] = []
    hooks = TrainingHooks(
        on_plan=lambda plan: (plans.append(plan), order.append("plan"))[0], on_step=lambda _: order.append("step")
    )
    run_training(job, tmp_path / "out", hooks)
    (plan,) = plans
    assert order[0] == "plan"
    assert (plan.rows, plan.valid_rows, plan.held_out, plan.steps) == (36, 4, True, 15)
    assert plan.prefixes.memory == plan.prefixes.needed > 0
    assert plan.seconds > 0
    assert "apple 0" in plan.sample[0][1]


def test_the_limit_on_memory_is_kept(job: TrainingJob, tmp_path: Path) -> None:
    """What does not fit goes to a file, and the result is the same."""
    sizes = []
    for name, limit in (("free", None), ("none", 0)):
        plans: list[TrainingPlan] = []
        run_training(replace(job, cache_bytes=limit), tmp_path / name, TrainingHooks(on_plan=plans.append))
        sizes.append((plans[0].prefixes.memory > 0, plans[0].prefixes.disk > 0))
    assert sizes == [(True, False), (False, True)]
    assert (tmp_path / "free" / WEIGHTS).read_bytes() == (tmp_path / "none" / WEIGHTS).read_bytes()


def test_columns_templates_and_folders_from_the_command_line(job: TrainingJob, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = read_rows(job.data[0]).rows
    (folder / "kinds.csv").write_text("word,kind\n" + "".join(f"{row.input},{row.output}\n" for row in rows))
    (tmp_path / "words.json").write_text('{"*": ["kind of {input}"]}')
    options = ["--backbone", job.backbone, "--epochs", 1, "--column", "input=word", "--column", "output=kind"]
    result = cli("-m", job.model, folder, "-o", tmp_path / "out", *options, "--templates", tmp_path / "words.json")
    assert result.exit_code == 0, result.stderr
    assert "kind of apple 0" in result.stderr
    (tmp_path / "words.json").write_text('{"*": ["no place for it"]}')
    result = cli("-m", job.model, folder, "-o", tmp_path / "no", *options, "--templates", tmp_path / "words.json")
    assert result.exit_code == 1
    assert "has no {input}" in result.stderr


def test_strengths_are_drawn_within_the_range(tiny_gguf: Path) -> None:
    target = FrozenTarget(load_target(tiny_gguf, torch.float32, CPU), Positions.DECODE)
    trainer = Trainer(StaticVectors(["x"], (3, 64)), target, TrainingSettings(strength_range=(0.5, 2.0)))
    rows = [Example(n, "", "", (1, 2), (3,)) for n in range(200)]
    drawn = trainer._strengths(rows, 7, 0.5).flatten()
    assert 0.5 <= float(drawn.min()) < 0.7
    assert 1.8 < float(drawn.max()) <= 2.0
    assert torch.equal(drawn, trainer._strengths(rows, 7, 0.5).flatten())
