"""Training: what it reads, what it writes, and that it teaches."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2Model
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_export.export_bundle import export
from atv_local import Positions
from atv_local.data.rows import Row, RowFile, read_rows
from atv_local.errors import BundleError, DataError, ModelError, TrainingError, UsageError
from atv_local.generator import Pooling
from atv_local.generator.manifest import Spec
from atv_local.target.target_file import TargetFile
from atv_train.examples import Example, Wordings, encode
from atv_train.frozen_target.batching import supports_split_attention
from atv_train.frozen_target.frozen_target import FrozenTarget
from atv_train.frozen_target.prefix_cache import PrefixCache
from atv_train.frozen_target.weights import check_length, load_target
from atv_train.job import TrainingJob
from atv_train.run_folder import checkpoint
from atv_train.run_folder.spec import checkpoint_spec, warnings_about_labels
from atv_train.trainer import StepReport
from atv_train.trainer.training_settings import TrainingSettings
from atv_train.training_run import TrainingHooks, run_training
from atv_train.vector_sources.backbone import load_backbone
from atv_train.vector_sources.generator_module import GeneratorModule
from atv_train.vector_sources.sources import AdaptiveVectors

BRIEF = TrainingSettings(epochs=1, batch_size=8)
WEIGHTS = Path(checkpoint.CHECKPOINT) / checkpoint.WEIGHTS


@pytest.fixture
def job(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path) -> TrainingJob:
    options = {"hold_out": False, "backbone": str(tiny_backbone), "max_query_tokens": 64}
    return TrainingJob(tiny_gguf, [tiny_rows], settings=BRIEF, **options)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_the_checkpoint_says_where_it_comes_from(trained_checkpoint: Path, tiny_rows: Path) -> None:
    spec = Spec.model_validate_json((trained_checkpoint / "checkpoint" / "config.json").read_bytes())
    assert (spec.target.name, spec.target.n_layer, spec.target.n_embd) == ("tiny", 4, 64)
    assert (spec.generator.backbone, spec.generator.query_template) == ("tiny-bert", "{query}")
    assert spec.injection.positions is Positions.DECODE
    assert [(file.name, file.rows) for file in spec.provenance.data] == [(tiny_rows.name, 40)]
    assert [(task.name, task.kind, task.labels) for task in spec.tasks] == [("kinds", "labels", ["a", "b"])]
    assert len((trained_checkpoint / "metrics.jsonl").read_text().splitlines()) == 20
    inside = ["checkpoint", "curves.png", "metrics.jsonl", "replay.jsonl", "run.json", "state.safetensors"]
    assert sorted(path.name for path in trained_checkpoint.iterdir()) == inside
    assert (trained_checkpoint / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_checkpoint_lists_the_tasks_of_the_training_rows(tiny_gguf: Path, job: TrainingJob) -> None:
    """Labels only where they fit, and nothing that would fill the manifest."""

    def files_of(*groups: list[tuple[str, str]]) -> list[RowFile]:
        return [
            RowFile("x", [Row(input="q", output=text, task=task) for task, text in rows], "0" * 64) for rows in groups
        ]

    def tasks(*groups: list[tuple[str, str]]) -> list[tuple[str, str, int]]:
        spec = checkpoint_spec(job, TargetFile.open(tiny_gguf).spec, files_of(*groups), 64, 0)
        return [(task.name, task.kind, len(task.labels)) for task in spec.tasks]

    twice = [("yesno", "yes"), ("yesno", "no")] * 2
    text, long = [("text", "hello"), ("text", "bye")], [("long", "x" * 257)] * 4
    assert tasks(twice, text + twice, long) == [("yesno", "labels", 2), ("text", "text", 0), ("long", "text", 0)]
    for too_many in (
        [(str(number), "x") for number in range(1001)],
        [(f"{task}", f"{label:0250}") for task in range(30) for label in [*range(40)] * 2],
    ):
        assert tasks(too_many) == []
        assert len(warnings_about_labels(files_of(too_many), Wordings())) == 1
    assert warnings_about_labels(files_of(twice), Wordings()) == []
    many = [("many", f"label {n}") for n in range(150)] * 4
    assert tasks(many) == [("many", "labels", 150)]


@pytest.mark.parametrize("positions", [Positions.ALL, Positions.LAST])
def test_every_mode_of_injection_learns_the_rows(job: TrainingJob, tmp_path: Path, positions: Positions) -> None:
    """`decode` is the tiny checkpoint's, whose answers tests/runtime/test_engine.py reads."""
    settings = replace(job.settings, epochs=20, learning_rate=2e-2, backbone_learning_rate=2e-3)
    losses: list[float] = []
    job = replace(job, positions=positions, settings=settings)
    run_training(job, tmp_path / "out", TrainingHooks(on_epoch=lambda metrics: losses.append(metrics["loss"])))
    assert losses[-1] < losses[0] / 2
    export(tmp_path / "out", tmp_path / "bundle", precisions=["fp32"])
    engine = atv_local.load(job.model, tmp_path / "bundle")
    assert engine.steering.positions is positions
    assert engine.answer("fig 2", max_tokens=1).text != engine.answer("hen 2", max_tokens=1).text


def test_the_same_seed_gives_the_same_checkpoint(job: TrainingJob, tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_training(replace(job, settings=replace(job.settings, seed=seed)), tmp_path / name)
        files.append((tmp_path / name / WEIGHTS).read_bytes())
    assert files[0] == files[1] != files[2]


def test_stopping_keeps_what_was_learned(job: TrainingJob, tmp_path: Path) -> None:
    steps: list[int] = []
    hooks = TrainingHooks(on_step=lambda progress: steps.append(progress.step), stopped=lambda: len(steps) == 2)
    assert run_training(job, tmp_path / "out", hooks).metrics == {"epoch": 0.4}
    spec, generator, _ = checkpoint.load_checkpoint(tmp_path / "out")
    assert spec.provenance.epochs == 0.4
    assert generator.expansion.weight.abs().max() > 0


def test_the_vector_is_made_from_the_query_alone(trained_checkpoint: Path) -> None:
    _, generator, tokenizer = checkpoint.load_checkpoint(trained_checkpoint)
    source = AdaptiveVectors(generator, tokenizer, 64)
    one = source([Example(0, "apple", "x", (1, 2), (3, 4))])
    other = source([Example(9, "apple", "y", (5, 6, 7), (8,))])
    assert torch.equal(one, other)


def test_a_row_over_the_limit_is_named(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`max_row_tokens`.* row 1 .* limit of 20"):
        run_training(replace(job, max_row_tokens=20), tmp_path / "out")


def test_an_output_that_cannot_be_written_fails_before_training(job: TrainingJob, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="choose another output"):
        run_training(job, tmp_path / "mine", overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        run_training(job, tmp_path / "file" / "out")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_the_command_trains_and_prints_the_checkpoint(job: TrainingJob, tmp_path: Path) -> None:
    options = ["--backbone", job.backbone, "--epochs", 1, "--valid", job.data[0]]
    result = cli("-m", job.model, *job.data, "-o", tmp_path / "out", *options)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    metrics = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert 0 <= metrics["valid_accuracy"] <= 1
    assert "loss" in result.stderr
    assert " of 1 task," in result.stderr
    assert " 1 epoch," in result.stderr


@pytest.mark.parametrize("missing", ["model", "data", "backbone"])
def test_the_command_says_what_is_missing(job: TrainingJob, tmp_path: Path, missing: str) -> None:
    paths = {"model": job.model, "data": job.data[0], "backbone": job.backbone, missing: tmp_path / "absent"}
    result = cli("-m", paths["model"], paths["data"], "-o", tmp_path / "out", "--backbone", paths["backbone"])
    assert result.exit_code == 1
    assert "absent" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_ctrl_c_keeps_a_checkpoint(job: TrainingJob, tmp_path: Path) -> None:
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
    assert b"--resume" in stderr
    assert b"Traceback" not in stderr
    checkpoint.load_checkpoint(output)


def test_an_old_run_stays_until_the_new_one_has_a_checkpoint(job: TrainingJob, tmp_path: Path) -> None:
    run_training(job, tmp_path / "out")
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    seen: list[bool] = []

    def on_step(_: StepReport) -> None:
        seen.append((tmp_path / "out" / WEIGHTS).read_bytes() == before)
        with pytest.raises(UsageError, match="another process is writing"):
            run_training(job, tmp_path / "out", overwrite=True)

    other = replace(job, settings=replace(job.settings, epochs=1, seed=5))
    run_training(other, tmp_path / "out", TrainingHooks(on_step=on_step), overwrite=True)
    assert seen
    assert all(seen)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_stopping_before_the_first_step_writes_nothing(job: TrainingJob, tmp_path: Path) -> None:
    assert run_training(job, tmp_path / "out", TrainingHooks(stopped=lambda: True)).metrics == {}
    assert list(tmp_path.iterdir()) == []


def test_rows_may_come_through_a_pipe(job: TrainingJob, tmp_path: Path) -> None:
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(job.data[0].read_bytes()))
    writer.start()
    run_training(replace(job, data=[pipe]), tmp_path / "out")
    writer.join()
    spec, _, _ = checkpoint.load_checkpoint(tmp_path / "out")
    assert spec.provenance.data[0].sha256 == hashlib.sha256(job.data[0].read_bytes()).hexdigest()


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_checkpoint(job: TrainingJob, tmp_path: Path) -> None:
    run_training(job, tmp_path / "out")
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    with pytest.raises(UsageError, match="overwrite=True"):
        run_training(job, tmp_path / "out")
    with pytest.raises(TrainingError, match="smaller learning rate"):
        run_training(replace(job, settings=replace(BRIEF, learning_rate=1e30)), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == before


def test_queries_longer_than_the_backbone_reads_are_cut(job: TrainingJob, tmp_path: Path) -> None:
    rows = tmp_path / "long.jsonl"
    rows.write_text(json.dumps({"input": "a b c " * 60, "output": "a"}) + "\n")
    long = replace(job, data=[rows], max_query_tokens=128)
    run_training(long, tmp_path / "out")
    export(tmp_path / "out", tmp_path / "bundle", precisions=["fp32"])
    engine = atv_local.load(job.model, tmp_path / "bundle")
    assert engine.vector("a b c " * 60).array.any()


def test_data_is_text_and_not_markup(job: TrainingJob, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "x", "output": "y", "task": "[/bold] 20%"}\n' * 8)
    result = cli(
        "-m", job.model, rows, "-o", tmp_path / "out", "--backbone", job.backbone, "--epochs", 1, "--valid", rows
    )
    assert result.exit_code == 0, result.stderr
    assert "[/bold] 20%" in result.stderr


def write_gpt2(folder: Path, tiny_backbone: Path) -> Path:
    """A random GPT-2, the paper's backbone, with a tokenizer that pads on the left."""
    config = GPT2Config(vocab_size=100, n_positions=128, n_embd=32, n_layer=2, n_head=2)
    GPT2Model(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone, padding_side="left")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "mix"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_querys_vector_does_not_depend_on_its_batch(
    tiny_backbone: Path, tmp_path: Path, architecture: str, pooling: Pooling
) -> None:
    """Training reads batches and the runtime one query at a time; padding must not tell them apart."""
    folder = tiny_backbone if architecture == "bert" else write_gpt2(tmp_path / "gpt2", tiny_backbone)
    backbone, tokenizer = load_backbone(str(folder))
    generator = GeneratorModule(backbone, 3, 64, pooling, scale=1.0).eval()
    torch.nn.init.normal_(generator.expansion.weight)
    source = AdaptiveVectors(generator, tokenizer, 64).eval()
    rows = [Example(n, text, "", (1, 2), (3,)) for n, text in enumerate(["a", "many more words " * 3, "two words"])]
    together = source(rows)
    for row, vector in zip(rows, together, strict=True):
        assert torch.allclose(source([row])[0], vector, atol=1e-4)


def test_the_papers_backbone_trains_and_exports(job: TrainingJob, tiny_backbone: Path, tmp_path: Path) -> None:
    backbone = write_gpt2(tmp_path / "gpt2", tiny_backbone)
    run_training(replace(job, backbone=str(backbone), pooling="last"), tmp_path / "out")
    export(tmp_path / "out", tmp_path / "bundle")
    assert atv_local.load(job.model, tmp_path / "bundle").vector("apple").array.any()


def test_a_target_whose_batches_differ_is_refused(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some attention kernels and caches give other logits in padded batches; the check at the start finds them."""
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    examples = [Example(n, "", "", tuple(range(60, 60 + length)), (70, 4)) for n, length in enumerate((4, 60))]
    assert supports_split_attention(model, Positions.DECODE, examples)
    monkeypatch.setattr(
        "atv_train.frozen_target.attention.CachedPrefix.mask",
        property(lambda self: torch.ones(self.states.shape[2], 1) > 0),
    )
    with pytest.raises(ModelError, match="positions=all"):
        supports_split_attention(model, Positions.DECODE, examples)


def test_rows_longer_than_an_attention_window_are_refused(tiny_gguf: Path, job: TrainingJob) -> None:
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    model.config.sliding_window = 8
    examples = encode(read_rows(job.data[0]).rows, TargetFile.open(tiny_gguf).prompts, 512).first
    with pytest.raises(DataError, match="window of 8"):
        supports_split_attention(model, Positions.DECODE, examples)


def test_rows_longer_than_the_targets_context_are_refused(tiny_gguf: Path, job: TrainingJob) -> None:
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    model.config.max_position_embeddings = 12
    examples = encode(read_rows(job.data[0]).rows, TargetFile.open(tiny_gguf).prompts, 512).first
    with pytest.raises(DataError, match=r"context of 12; .*`max_row_tokens=12`"):
        check_length(model, examples)


def test_stopping_while_prefixes_are_evaluated_leaves_the_rest_out(tiny_gguf: Path) -> None:
    cache = PrefixCache(1 << 30)
    target = FrozenTarget(load_target(tiny_gguf, torch.float32, torch.device("cpu")), Positions.DECODE, cache)
    examples = [Example(n, "", "", (60, *range(100, 180), 60 + n, 4), (70, 4)) for n in range(40)]
    done: list[int] = []
    target.cache_prefixes(examples, lambda tokens, _: done.append(tokens), lambda: bool(done))
    assert len(done) == 1
    assert 0 < len(cache) < len(examples)


@pytest.mark.parametrize(
    "name", ["config.json", "generator.safetensors", "backbone/config.json", "backbone/tokenizer.json"]
)
def test_a_damaged_checkpoint_is_refused(trained_checkpoint: Path, tmp_path: Path, name: str) -> None:
    import shutil

    copy = shutil.copytree(trained_checkpoint / "checkpoint", tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:-9])
    with pytest.raises(BundleError, match="copy"):
        checkpoint.load_checkpoint(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match="copy"):
        checkpoint.load_checkpoint(copy)


@pytest.mark.parametrize("size", [0, 900, 2000])
@pytest.mark.parametrize("weights", [True, False])
def test_a_checkpoint_that_does_not_fit_on_the_disk_is_one_sentence(
    trained_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bool, size: int
) -> None:
    """Each library that writes a part has errors of its own; a limit on the size of files acts as a full disk does."""
    resource = pytest.importorskip("resource")
    loaded = checkpoint.load_checkpoint(trained_checkpoint)
    if not weights:
        monkeypatch.setattr(checkpoint, "save_file", lambda *_: None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(UsageError, match=str(tmp_path / "new")):
            checkpoint.save_checkpoint(tmp_path / "new", *loaded)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
