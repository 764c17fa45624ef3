"""The loop's promises: resumable bit for bit, the same on several processes, its terms, its baselines, its sources."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_export.run import run as export
from atv_local import Positions
from atv_local.errors import BundleError, DataError, ModelError
from atv_local.vectors import TaskVector
from atv_local.vocabulary import Vocabulary
from atv_train import checkpoint
from atv_train.backbone import load_backbone
from atv_train.data import Row, read_rows
from atv_train.examples import Example, encode, epoch_batches
from atv_train.folder import RUN, STATE
from atv_train.general import read_general
from atv_train.generator import Generator, Pooling
from atv_train.job import Job
from atv_train.objective import contrast, divergence
from atv_train.plan import Plan, batch_size_for, epochs_for, hold_out
from atv_train.prefixes import PrefixStore
from atv_train.run import Hooks, resume, run
from atv_train.sources import Adaptive, Static, Tuning, averaged, random_like
from atv_train.target import FrozenTarget, load_target
from atv_train.trainer import Settings, State, Trainer

CPU = torch.device("cpu")
WEIGHTS = Path(checkpoint.FOLDER) / checkpoint.WEIGHTS


@pytest.fixture
def job(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path) -> Job:
    settings = Settings(epochs=3, batch_size=8, learning_rate=1e-2)
    return Job(tiny_gguf, [tiny_rows], backbone=str(tiny_backbone), max_query_tokens=64, settings=settings)


@pytest.fixture
def general(tmp_path: Path) -> Path:
    file = tmp_path / "general.txt"
    file.write_text("".join(f"say {n}\n" for n in range(24)))
    return file


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


class Killed(BaseException):
    """Ends a run at once, as a signal would, before anything more is written."""


@pytest.mark.parametrize("killed_at", [2, 5, 7])
@pytest.mark.parametrize("tuning", ["full", "lora", "frozen"])
def test_a_killed_run_continues_bit_for_bit(
    job: Job, general: Path, tmp_path: Path, killed_at: int, tuning: Tuning
) -> None:
    job = replace(
        job, tuning=tuning, general=general, settings=replace(job.settings, harmless=0.5, strengths=(0.5, 2.0))
    )
    whole = run(job, tmp_path / "whole", save_seconds=0)

    def on_step(progress: object) -> None:
        if getattr(progress, "step") == killed_at:  # noqa: B009
            raise Killed

    with pytest.raises(Killed):
        run(job, tmp_path / "out", Hooks(on_step=on_step), save_seconds=0)
    steps: list[int] = []
    resumed = resume(tmp_path / "out", Hooks(on_step=lambda progress: steps.append(progress.step)))
    assert steps[0] == killed_at  # the step that was not saved is taken again
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "out" / WEIGHTS).read_bytes()
    states = [load_file(tmp_path / name / STATE) for name in ("whole", "out")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert {k: v for k, v in whole.items() if k != "seconds"} == {k: v for k, v in resumed.items() if k != "seconds"}


def test_kill_9_and_resume_from_the_command_line(job: Job, tmp_path: Path) -> None:
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
    resume(output, Hooks(on_epoch=lambda metrics: seen.append(metrics["epoch"]), stopped=lambda: len(seen) == 2))
    assert seen == [before + 1, before + 2]
    checkpoint.load(output)


def test_a_finished_run_resumes_to_nothing(job: Job, tmp_path: Path) -> None:
    run(job, tmp_path / "out")
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    result = cli("--resume", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == before


def test_resume_says_what_is_wrong(job: Job, tmp_path: Path) -> None:
    run(job, tmp_path / "out")
    cases: list[tuple[int, list[object], str]] = [
        (1, ["--resume", tmp_path / "absent"], "absent"),
        (2, ["--resume", tmp_path / "out", "--epochs", 9], "leave out epochs"),
        (2, ["-m", job.model, "-o", tmp_path / "x"], "a file of rows"),
        (2, [job.data[0], "-o", tmp_path / "x"], "-m MODEL"),
    ]
    for code, arguments, words in cases:
        result = cli(*arguments)
        assert (result.exit_code, result.stdout) == (code, ""), result.stderr
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    changed = replace(job, data=[tmp_path / "mine.jsonl"])
    (tmp_path / "mine.jsonl").write_bytes(job.data[0].read_bytes())
    run(changed, tmp_path / "mine")
    (tmp_path / "mine.jsonl").write_text('{"input": "x", "output": "y"}\n' * 3)
    with pytest.raises(DataError, match="not what it was trained on"):
        resume(tmp_path / "mine")
    for name in (RUN, STATE):
        file = tmp_path / "out" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BundleError, match="damaged"):
            resume(tmp_path / "out")
        file.write_bytes(whole)
    with safe_open(tmp_path / "out" / STATE, framework="pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
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


def test_two_processes_train_as_one_with_the_doubled_batch(job: Job, tmp_path: Path) -> None:
    backbone = still(Path(str(job.backbone)), tmp_path / "still")
    options = ["-m", "atv_cli", "train", "-m", job.model, *job.data, "--backbone", backbone, "--epochs", 2]
    options += ["--dtype", "float32"]  # rounding to bfloat16 depends on the batch
    histories = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        start = launched(2) if processes == 2 else [sys.executable]
        command = [*start, *options, "-o", output, "--batch-size", 8 // processes]
        done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{output}\n"
        histories.append([json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()])
    for a, b in zip(*histories, strict=True):
        assert a.pop("seconds") > 0 < b.pop("seconds")
        assert a == pytest.approx(b, rel=1e-3)


@pytest.mark.parametrize("change", [{"tuning": "lora"}, {"tuning": "frozen"}, {"rank": 4}, {"layers": (2, 3)}])
def test_every_kind_of_generator_learns_exports_and_answers(job: Job, tmp_path: Path, change: dict) -> None:
    settings = replace(job.settings, epochs=12, learning_rate=2e-2, backbone_learning_rate=1e-2)
    losses: list[float] = []
    hooks = Hooks(on_epoch=lambda metrics: losses.append(metrics["loss"]))
    run(replace(job, hold_out=False, settings=settings, **change), tmp_path / "out", hooks)
    assert losses[-1] < 0.8 * losses[0]
    export(tmp_path / "out", tmp_path / "bundle", int8=False)
    engine = atv_local.load(job.model, tmp_path / "bundle")
    vector = engine.vector("fig 2")
    assert (vector.array[0] == 0).all() == ("layers" in change)
    _, generator, tokenizer = checkpoint.load(tmp_path / "out")
    expected = Adaptive(generator, tokenizer, 64)([Example(0, "fig 2", "", (1, 2), (3,))])[0].detach().numpy()
    assert np.allclose(vector.array, expected, atol=1e-5 * np.abs(expected).max())
    assert not np.array_equal(vector.array, engine.vector("hen 2").array)


def test_merged_lora_is_the_trained_generator(tiny_backbone: Path) -> None:
    backbone, tokenizer = load_backbone(str(tiny_backbone))
    source = Adaptive(Generator(backbone, 3, 64), tokenizer, 64, "lora").eval()
    for parameter in source.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    rows = [Example(0, "apple", "", (1, 2), (3,))]
    merged = Adaptive(source.merged().eval(), tokenizer, 64)
    assert torch.allclose(source(rows), merged(rows), atol=1e-5)
    assert source(rows).abs().max() > 0


def test_do_no_harm_keeps_general_answers(job: Job, general: Path, tmp_path: Path) -> None:
    settings = replace(job.settings, epochs=15, learning_rate=2e-2, strengths=(0.0, 2.0))
    harm = {}
    for weight in (1e-9, 5.0):
        kept: list[dict[str, float]] = []
        changed = replace(job, general=general, settings=replace(settings, harmless=weight))
        run(changed, tmp_path / str(weight), Hooks(on_epoch=kept.append))
        harm[weight] = kept[-1]["general_kl"]
        assert 0 <= kept[-1]["general_agreement"] <= 1
    assert harm[5.0] < harm[1e-9] / 2


def test_the_measures_of_divergence_and_contrast() -> None:
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    assert float(divergence(logits, logits)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(logits, logits.roll(1, dims=1))) > 0.1
    one = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(1))
    apart, alike = torch.cat([one, one, -one, -one]), torch.cat([one, -one, one, -one])
    tasks = ["a", "a", "b", "b"]
    assert float(contrast(apart, tasks)) < 0.01 < 1 < float(contrast(alike, tasks))
    assert float(contrast(apart, ["a", "b", "c", "d"])) == 0


def test_baselines_are_measured_and_written(job: Job, tmp_path: Path) -> None:
    found: dict[str, dict[str, float]] = {}
    job = replace(job, baselines=True, hold_out=False, valid=job.data, settings=replace(job.settings, epochs=8))
    run(
        replace(job, settings=replace(job.settings, learning_rate=2e-2)),
        tmp_path / "out",
        Hooks(on_baseline=found.__setitem__),
    )
    assert set(found) == {"adaptive", "averaged", "random", "none", "per-task", "static"}
    assert found["adaptive"]["valid_loss"] < found["averaged"]["valid_loss"] < found["none"]["valid_loss"]
    assert found["static"]["valid_loss"] < found["none"]["valid_loss"]
    files = sorted(path.name for path in (tmp_path / "out" / "baselines").glob("*.gguf"))
    assert files == ["averaged.gguf", "per-task.gguf", "static.gguf"]
    assert TaskVector.load_gguf(tmp_path / "out" / "baselines" / "static.gguf", 3).array.any()


def test_baselines_steer_the_layers_that_the_generator_steers(job: Job, tmp_path: Path) -> None:
    run(replace(job, baselines=True, layers=(2, 3)), tmp_path / "out")
    for file in (tmp_path / "out" / "baselines").glob("*.gguf"):
        norms = np.linalg.norm(TaskVector.load_gguf(file, 3).array, axis=-1)
        assert norms[0] == 0 < min(norms[1:]), file.name


def test_stopping_works_while_baselines_are_trained(job: Job, tmp_path: Path) -> None:
    epochs: list[object] = []
    asked: list[None] = []  # after the last epoch

    def stopped() -> bool:
        asked.extend([None] * (len(epochs) == job.settings.epochs))
        return len(asked) > 3

    run(replace(job, baselines=True), tmp_path / "out", Hooks(on_epoch=epochs.append, stopped=stopped))
    assert len(epochs) == job.settings.epochs
    assert not (tmp_path / "out" / "baselines").exists()
    checkpoint.load(tmp_path / "out")


def test_averaged_and_random_vectors(tiny_checkpoint: Path) -> None:
    _, generator, tokenizer = checkpoint.load(tiny_checkpoint)
    source = Adaptive(generator, tokenizer, 64)
    rows = [Example(n, text, task, (1, 2), (3,)) for n, (text, task) in enumerate([("a", "x"), ("b", "x"), ("c", "y")])]
    mean = averaged(source, rows)
    vectors = source(rows)
    assert torch.allclose(mean(rows[:1])[0], vectors[:2].mean(dim=0), atol=1e-6)
    noise = random_like(mean, 0)
    assert torch.allclose(noise.vectors.norm(dim=-1), mean.vectors.norm(dim=-1), atol=1e-5)
    assert torch.cosine_similarity(noise.vectors.flatten(1), mean.vectors.flatten(1)).abs().max() < 0.5


@pytest.mark.parametrize("pooling", ["mean", "last", "mix"])
def test_a_small_llama_is_a_backbone_too(job: Job, tiny_backbone: Path, tmp_path: Path, pooling: Pooling) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(tmp_path / "llama")
    brief = replace(job, backbone=str(tmp_path / "llama"), pooling=pooling, settings=replace(job.settings, epochs=1))
    run(brief, tmp_path / "out")
    export(tmp_path / "out", tmp_path / "bundle", int8=False)
    assert atv_local.load(job.model, tmp_path / "bundle").vector("apple").array.any()


def test_weights_stand_in_for_the_gguf_only_if_they_are_its_own(job: Job, tmp_path: Path) -> None:
    model = load_target(job.model, torch.float32, CPU)
    model.save_pretrained(tmp_path / "own")
    run(replace(job, weights=str(tmp_path / "own")), tmp_path / "out")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="not those of"):
        run(replace(job, weights=str(tmp_path / "other")), tmp_path / "no")
    with pytest.raises(ModelError, match="absent"):
        run(replace(job, weights=str(tmp_path / "absent")), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_wordings_are_what_generator_and_target_read(tiny_gguf: Path) -> None:
    vocabulary = Vocabulary.from_gguf(tiny_gguf)
    rows = [Row(input="fig", output="a", task="kinds"), Row(input="cat", output="b", task="other")]
    encoded = encode(rows, vocabulary, 512, {"kinds": ["is {input} a fruit", "{input}?"], "*": ["say {input}"]})
    assert [[e.query for e in wordings] for wordings in encoded.rows] == [["is fig a fruit", "fig?"], ["say cat"]]
    assert "is fig a fruit" in vocabulary.text(encoded.rows[0][0].prompt)
    drawn = {e.query for epoch in range(20) for batch in epoch_batches(encoded.rows, 2, 0, epoch) for e in batch}
    assert drawn == {"is fig a fruit", "fig?", "say cat"}


@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=40),
    size=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_an_epoch_takes_every_row_once(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    rows = [[Example(n, str(n), "", tuple(range(length)), (1, 2))] for n, length in enumerate(lengths)]
    batches = epoch_batches(rows, size, seed, epoch)
    assert sorted(example.index for batch in batches for example in batch) == list(range(len(rows)))
    assert all(len(batch) <= size for batch in batches)
    assert batches == epoch_batches(rows, size, seed, epoch)


@given(texts=st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_a_held_out_input_is_never_trained_on(texts: list[str], seed: int) -> None:
    rows = [Row(input=text, output=str(n % 2), task="t") for n, text in enumerate(texts)]
    train, valid = hold_out(rows, seed)
    assert len(train) + len(valid) == len(rows)
    assert {row.input for row in train}.isdisjoint(row.input for row in valid)
    assert train
    assert bool(valid) == (len(set(texts)) > 1)


def test_tasks_that_share_their_inputs_share_what_is_held_out() -> None:
    rows = [Row(input=str(n), output="x", task=f"t{task}") for task in range(10) for n in range(200)]
    assert len(hold_out(rows, 0)[1]) == 200


def test_a_tasks_name_may_be_any_text(job: Job, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"), [(1, 4, 15), (40, 4, 15), (300, 32, 15), (1800, 32, 11), (90_000, 32, 3)]
)
def test_defaults_follow_the_number_of_rows(rows: int, batch: int, epochs: int) -> None:
    assert (batch_size_for(rows), epochs_for(rows, batch)) == (batch, epochs)


def test_the_best_epoch_is_kept_and_training_stops_without_progress(job: Job, tmp_path: Path) -> None:
    """At a rate that ruins what was learned, later epochs are worse; the checkpoint is not theirs."""
    settings = replace(job.settings, epochs=40, patience=2, learning_rate=0.5, backbone_learning_rate=0.1, warmup=0.0)
    seen: list[dict[str, float]] = []
    best = run(replace(job, settings=settings), tmp_path / "out", Hooks(on_epoch=seen.append))
    assert len(seen) < 40
    assert best["valid_accuracy"] == max(metrics["valid_accuracy"] for metrics in seen)
    spec, _, _ = checkpoint.load(tmp_path / "out")
    assert spec.provenance.metrics["valid_accuracy"] == best["valid_accuracy"]
    assert spec.provenance.epochs == best["epoch"] == seen[-1]["epoch"] - 2


def test_ties_in_accuracy_go_to_the_smaller_loss() -> None:
    history = [
        {"epoch": 1.0, "valid_accuracy": 0.5, "valid_loss": 0.1},
        {"epoch": 2.0, "valid_accuracy": 0.8, "valid_loss": 0.4},
        {"epoch": 3.0, "valid_accuracy": 0.8, "valid_loss": 0.3},
        {"epoch": 4.0, "valid_accuracy": 0.8, "valid_loss": 0.5},
    ]
    state = State(history=history)
    assert (state.best, state.stale()) == (history[2], 1)


def test_the_plan_is_said_before_training(job: Job, tmp_path: Path) -> None:
    plans: list[Plan] = []
    order: list[str] = []
    hooks = Hooks(
        on_plan=lambda plan: (plans.append(plan), order.append("plan"))[0], on_step=lambda _: order.append("step")
    )
    run(job, tmp_path / "out", hooks)
    (plan,) = plans
    assert order[0] == "plan"
    assert (plan.rows, plan.valid_rows, plan.held_out, plan.steps) == (36, 4, True, 15)
    assert plan.memory_bytes == plan.prefix_bytes > 0
    assert plan.seconds > 0
    assert "apple 0" in plan.sample[0][1]


def test_the_limit_on_memory_is_kept(job: Job, tmp_path: Path) -> None:
    """What does not fit goes to a file, and the result is the same."""
    sizes = []
    for name, limit in (("free", None), ("none", 0)):
        plans: list[Plan] = []
        run(replace(job, cache_bytes=limit), tmp_path / name, Hooks(on_plan=plans.append))
        sizes.append((plans[0].memory_bytes > 0, plans[0].disk_bytes > 0))
    assert sizes == [(True, False), (False, True)]
    assert (tmp_path / "free" / WEIGHTS).read_bytes() == (tmp_path / "none" / WEIGHTS).read_bytes()


@given(sizes=st.lists(st.integers(1, 9), max_size=12), memory=st.integers(0, 400), disk=st.integers(0, 400))
def test_a_store_gives_back_what_it_took(sizes: list[int], memory: int, disk: int) -> None:
    store, other = PrefixStore(memory, disk), PrefixStore(0, memory + disk)
    kept = {}
    for n, size in enumerate(sizes):
        part = torch.full((2, size), float(n), dtype=torch.bfloat16)
        added = store.add((n,), part)
        assert other.add((n,), part) == added  # only the sum of the two decides
        if added:
            kept[(n,)] = part
    assert sum(part.numel() * 2 for part in kept.values()) <= memory + disk
    assert len(store) == len(kept)
    for prefix, part in kept.items():
        found = store.get(prefix)
        assert found is not None
        assert torch.equal(found, part)
    assert store.get((99,)) is None


def test_general_queries_may_be_the_users_own(tmp_path: Path) -> None:
    assert len(read_general(None)) == 240
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(f"query {n % 15}\n" for n in range(40)))
    assert read_general(file) == [f"query {n}" for n in range(15)]
    for content in (b"one\ntwo\n", b"\xff\xfe" * 40):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"mine\.txt"):
            read_general(file)


def test_columns_templates_and_folders_from_the_command_line(job: Job, tmp_path: Path) -> None:
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


def test_static_vectors_do_not_see_the_query() -> None:
    static = Static(["x", "y"], (3, 8))
    torch.nn.init.normal_(static.vectors)
    rows = [Example(n, text, task, (1, 2), (3,)) for n, (text, task) in enumerate([("a", "x"), ("b", "x"), ("a", "z")])]
    vectors = static(rows)
    assert torch.equal(vectors[0], vectors[1])
    assert torch.allclose(vectors[2], static.vectors.mean(dim=0))


def test_strengths_are_drawn_within_the_range(tiny_gguf: Path) -> None:
    target = FrozenTarget(load_target(tiny_gguf, torch.float32, CPU), Positions.DECODE)
    trainer = Trainer(Static(["x"], (3, 64)), target, Settings(strengths=(0.5, 2.0)))
    rows = [Example(n, "", "", (1, 2), (3,)) for n in range(200)]
    drawn = trainer._strengths(rows, 7, 0.5).flatten()
    assert 0.5 <= float(drawn.min()) < 0.7
    assert 1.8 < float(drawn.max()) <= 2.0
    assert torch.equal(drawn, trainer._strengths(rows, 7, 0.5).flatten())
