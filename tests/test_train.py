"""Training: what it reads, what it writes, and that it teaches."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_export.run import run as export
from atv_local import Positions
from atv_local.errors import BundleError, DataError, UsageError
from atv_local.manifest import Spec
from atv_train import checkpoint
from atv_train.data import read_rows
from atv_train.examples import Example
from atv_train.run import Job, run
from atv_train.trainer import Settings, Trainer

BRIEF = Settings(epochs=1, batch_size=8, max_query_tokens=64)


@pytest.fixture
def job(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path) -> Job:
    return Job(tiny_gguf, [tiny_rows], backbone=str(tiny_backbone), settings=BRIEF)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_the_checkpoint_says_where_it_comes_from(tiny_checkpoint: Path, tiny_rows: Path) -> None:
    spec = Spec.model_validate_json((tiny_checkpoint / "config.json").read_bytes())
    assert (spec.target.name, spec.target.n_layer, spec.target.n_embd) == ("tiny", 4, 64)
    assert (spec.generator.backbone, spec.generator.query_template) == ("tiny-bert", "{query}")
    assert spec.injection.positions is Positions.DECODE
    assert [(file.name, file.rows) for file in spec.provenance.data] == [(tiny_rows.name, 40)]
    assert len((tiny_checkpoint / "metrics.jsonl").read_text().splitlines()) == 20
    assert sorted(path.name for path in tiny_checkpoint.iterdir()) == [
        *("backbone", "config.json", "generator.safetensors", "metrics.jsonl"),
    ]


@pytest.mark.parametrize("positions", [Positions.ALL, Positions.LAST])
def test_every_mode_of_injection_learns_the_rows(job: Job, tmp_path: Path, positions: Positions) -> None:
    """`decode` is the tiny checkpoint's, whose answers tests/test_engine.py reads."""
    settings = replace(job.settings, epochs=20, learning_rate=2e-2, backbone_learning_rate=2e-3)
    losses: list[float] = []
    job = replace(job, positions=positions, settings=settings)
    run(job, tmp_path / "out", on_epoch=lambda metrics: losses.append(metrics["loss"]))
    assert losses[-1] < losses[0] / 2
    export(tmp_path / "out", tmp_path / "bundle", int8=False)
    engine = atv_local.load(job.model, tmp_path / "bundle")
    assert engine.steering.positions is positions
    assert next(engine.stream("fig 2")).text != next(engine.stream("hen 2")).text


def test_the_same_seed_gives_the_same_checkpoint(job: Job, tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(replace(job, settings=replace(job.settings, seed=seed)), tmp_path / name)
        files.append((tmp_path / name / checkpoint.WEIGHTS).read_bytes())
    assert files[0] == files[1] != files[2]


def test_stopping_keeps_what_was_learned(job: Job, tmp_path: Path) -> None:
    steps: list[int] = []
    metrics = run(
        job, tmp_path / "out", on_step=lambda progress: steps.append(progress.step), stopped=lambda: len(steps) == 2
    )
    assert metrics["epoch"] == 0.4
    spec, generator, _ = checkpoint.load(tmp_path / "out")
    assert spec.provenance.epochs == 0.4
    assert generator.expansion.weight.abs().max() > 0


def test_the_vector_is_made_from_the_query_alone(tiny_checkpoint: Path) -> None:
    _, generator, tokenizer = checkpoint.load(tiny_checkpoint)
    trainer = Trainer(generator, tokenizer, target=_Device(), settings=BRIEF)  # type: ignore[arg-type]
    one = trainer.vectors([Example(0, "apple", "x", (1, 2), (3, 4))])
    other = trainer.vectors([Example(9, "apple", "y", (5, 6, 7), (8,))])
    assert torch.equal(one, other)


class _Device:
    device = torch.device("cpu")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "2: line"),
        ("[1]", "2: line"),
        ('{"input": "x"}', "2: output"),
        ('{"output": "x"}', "2: input"),
        ('{"input": "x", "output": ""}', "2: output"),
        ('{"input": 5, "output": "x"}', "2: input"),
        ('{"input": "' + "x" * (1 << 20) + '", "output": "y"}', "2: the line is longer"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "fine", "output": "yes"}\n' + line + "\n")
    with pytest.raises(DataError, match=f"rows.jsonl:{words}"):
        read_rows([file])


def test_blank_lines_and_other_fields_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "fruit.jsonl"
    file.write_text(
        '\n{"input": "x", "output": "y", "choices": ["y"], "id": 7}\n\n{"input": "x", "output": "y", "task": "t"}'
    )
    assert [row.task for row in read_rows([file])] == ["fruit", "t"]


def test_no_rows_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no rows"):
        read_rows([tmp_path / "empty.jsonl"])
    with pytest.raises(DataError, match="absent"):
        read_rows([tmp_path / "absent.jsonl"])


def test_a_row_over_the_limit_is_named(job: Job, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 .* over the 20 allowed"):
        run(replace(job, max_tokens=20), tmp_path / "out")


def test_an_output_that_cannot_be_written_fails_before_training(job: Job, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="choose another output"):
        run(job, tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        run(job, tmp_path / "file" / "out")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_the_command_trains_and_prints_the_checkpoint(job: Job, tmp_path: Path) -> None:
    options = ["--backbone", job.backbone, "--epochs", 1, "--valid", job.data[0]]
    result = cli("-m", job.model, *job.data, "-o", tmp_path / "out", *options)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    metrics = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert 0 <= metrics["valid_accuracy"] <= 1
    assert "loss" in result.stderr


@pytest.mark.parametrize("missing", ["model", "data", "backbone"])
def test_the_command_says_what_is_missing(job: Job, tmp_path: Path, missing: str) -> None:
    paths = {"model": job.model, "data": job.data[0], "backbone": job.backbone, missing: tmp_path / "absent"}
    result = cli("-m", paths["model"], paths["data"], "-o", tmp_path / "out", "--backbone", paths["backbone"])
    assert result.exit_code == 1
    assert "absent" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_ctrl_c_keeps_a_checkpoint(job: Job, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "atv_cli", "train", "-m", job.model, *job.data, "-o", output]
    options = ["--backbone", job.backbone, "--epochs", "100000"]
    process = subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not output.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"holds what was learned so far" in stderr
    assert b"Traceback" not in stderr
    checkpoint.load(output)


@pytest.mark.parametrize("name", ["config.json", "generator.safetensors", "backbone/config.json"])
def test_a_damaged_checkpoint_is_refused(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    import shutil

    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:-9])
    with pytest.raises(BundleError, match="copy"):
        checkpoint.load(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match="copy"):
        checkpoint.load(copy)
