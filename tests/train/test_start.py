"""Training that goes on from a run or a bundle: corrections, new tasks, and what is not forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import atv_local
import atv_train
from atv_cli.main import app
from atv_export import export
from atv_local.data import Row
from atv_local.errors import AtvError, BundleError, DataError, MismatchError, NotFoundError, UsageError
from atv_local.generator import Bundle, Generator
from atv_train.bundle_weights import load_bundle
from atv_train.examples import Wordings
from atv_train.plan import TrainingPlan
from atv_train.replay import REPLAY, Replay, kept_rows, read_replay, save_replay, with_replay
from atv_train.run_folder import load_checkpoint, read_spec
from tests import tiny

LEARNS = {"epochs": 20, "batch_size": 8, "learning_rate": 2e-2, "backbone_learning_rate": 2e-3, "patience": 20}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> atv_train.TrainingResult:
    folder = tmp_path_factory.mktemp("start") / "run"
    return atv_train.train(tiny_rows, folder, model=tiny_gguf, backbone=tiny_backbone, valid=[tiny_rows], **LEARNS)


ROWS = st.builds(
    Row, input=st.sampled_from("abcdef"), output=st.sampled_from("xy"), task=st.sampled_from(("s", "t", "u"))
)


@given(st.lists(ROWS), st.integers(1, 30), st.integers(0, 3))
def test_each_task_keeps_its_share(rows: list[Row], most: int, seed: int) -> None:
    kept = kept_rows(rows, most, seed)
    assert len(kept) == min(most, len(rows))
    assert kept == kept_rows(rows, most, seed)
    places = [next(place for place, row in enumerate(rows) if row is one) for one in kept]
    assert places == sorted(set(places))
    counts = {task: sum(row.task == task for row in kept) for task in "stu"}
    lost = [task for task in "stu" if counts[task] < sum(row.task == task for row in rows)]
    assert all(counts[task] >= max(counts.values()) - 1 for task in lost)


@given(st.lists(ROWS, min_size=1), st.lists(ROWS), st.integers(0, 3))
def test_new_rows_replace_what_they_correct(new: list[Row], earlier: list[Row], seed: int) -> None:
    mixed = with_replay(new, Replay(earlier, earlier), Wordings(), seed)
    corrected = {(row.task, row.input) for row in new}
    assert mixed.rows[: len(new)] == new
    others = [row for row in mixed.rows if not any(row is one for one in new)]
    assert not {(row.task, row.input) for row in (*others, *mixed.valid, *mixed.others)} & corrected
    assert len(others) + len(mixed.others) == sum((row.task, row.input) not in corrected for row in earlier)


def test_few_new_rows_are_a_quarter_of_what_is_trained() -> None:
    new = [Row(input=f"new {n}", output="x") for n in range(20)]
    earlier = [Row(input=f"old {n}", output="y") for n in range(1000)]
    rows = with_replay(new, Replay(earlier), Wordings(), 0).rows
    assert sum(row.input.startswith("new") for row in rows) / len(rows) == pytest.approx(0.25, abs=0.05)


@given(st.lists(ROWS), st.lists(ROWS))
def test_rows_that_are_kept_are_read_again(
    tmp_path_factory: pytest.TempPathFactory, train: list[Row], valid: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("replay")
    save_replay(folder, train, valid, 0)
    assert read_replay(folder) == Replay(train, valid)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"split": "x"}', '{"split": "train", "input": 3}', '{"input": "a"}'])
def test_damaged_rows_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / REPLAY).write_text(line + "\n")
    with pytest.raises(BundleError, match=r"replay\.jsonl:1 is damaged"):
        read_replay(tmp_path)


def test_corrections_are_learned_and_the_rest_is_not_forgotten(
    run: atv_train.TrainingResult, tiny_gguf: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    assert run.metrics["valid_accuracy"] == 1
    corrections = [{"input": f"cow {n}", "output": "a", "task": tiny_rows.stem} for n in range(4)]
    result = atv_train.train(
        write(tmp_path / "corrections.jsonl", *corrections), tmp_path / "more", start=run.folder, learning_rate=2e-2,
        backbone_learning_rate=2e-3, epochs=12,
    )  # fmt: skip
    assert result.before["valid_accuracy"] <= 1
    assert result.learned == atv_train.LearnedRows(4, 4)
    assert atv_train.resume(result.folder).history == result.history
    export(result, tmp_path / "bundle", precisions="fp32")
    with atv_local.load(tiny_gguf, tmp_path / "bundle", n_threads=1) as engine:
        everything = atv_local.Steering(gate="off")
        answers = {word: engine.answer(f"{word} 1", steering=everything, max_tokens=4).text for word in tiny.ANSWERS}
    assert answers == tiny.ANSWERS | {"cow": "a"}
    kept = {row.input: row.output for row in read_replay(result.folder).train}
    assert (kept["cow 1"], len([text for text in kept if text.startswith("cow")])) == ("a", 4)
    manifest = Bundle(tmp_path / "bundle").manifest
    assert [task.name for task in manifest.tasks] == [tiny_rows.stem]
    assert [file.name for file in manifest.provenance.data] == [tiny_rows.name, "corrections.jsonl"]


def test_a_new_task_joins(run: atv_train.TrainingResult, tiny_gguf: Path, tiny_rows: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "cars.jsonl", *({"input": f"car {n}", "output": "c"} for n in range(12)))
    result = atv_train.train(rows, tmp_path / "more", start=run.folder, **LEARNS)
    report = export(result, tmp_path / "bundle", precisions="fp32", model=tiny_gguf)
    assert [task.name for task in report.manifest.tasks] == [tiny_rows.stem, "cars"]
    assert report.manifest.gate is not None
    assert {task.name for task in report.manifest.gate.tasks} == {tiny_rows.stem, "cars"}
    with atv_local.load(tiny_gguf, tmp_path / "bundle", n_threads=1) as engine:
        everything = atv_local.Steering(gate="off")
        assert [engine.answer(q, steering=everything, max_tokens=4).text for q in ("car 3", "fig 3", "cow 3")] == [
            "c",
            "a",
            "b",
        ]


def test_what_a_run_was_told_is_kept(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path) -> None:
    options = {"batch_size": 8, "epochs": 1}
    told = {tiny_rows.stem: "Sort it."}
    first = atv_train.train(
        tiny_rows, tmp_path / "a", model=tiny_gguf, backbone=tiny_backbone, instructions=told, layers="2-3",
        prompt_vector=True, **options,
    )  # fmt: skip
    rows = write(tmp_path / "cars.jsonl", *({"input": f"car {n}", "output": "c"} for n in range(12)))
    more = atv_train.train(rows, tmp_path / "b", start=first.folder, instructions={"cars": "Name it."}, **options)
    job = json.loads((more.folder / "run.json").read_text())["job"]
    assert job["instructions"] == {tiny_rows.stem: ["Sort it."], "cars": ["Name it."]}
    assert (job["layers"], job["prompt_vector"], job["positions"]) == ([2, 3], True, "all")
    assert (job["model"], job["start"]) == (str(tiny_gguf), str(first.folder))


def test_a_correction_replaces_the_row_that_is_read_the_same(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) | {"choices": ["a", "b"]} for line in tiny_rows.read_text().splitlines()]
    told = [row | {"instruction": "Sort it."} for row in rows]
    for name, data, options in (("row", told, {}), ("file", rows, {"instructions": {"kinds": "Sort it."}})):
        first = atv_train.train(
            write(tmp_path / f"{name}/kinds.jsonl", *data), tmp_path / name / "a", model=tiny_gguf,
            backbone=tiny_backbone, epochs=1, static_vector=True, **options,
        )  # fmt: skip
        right = write(tmp_path / name / "right.jsonl", {"input": "cow 1", "output": "a", "task": "kinds"})
        export(first, tmp_path / name / "bundle", precisions="fp32")
        for start, place in ((first.folder, "b"), (tmp_path / name / "bundle", "c")):
            more = atv_train.train(
                right, tmp_path / name / place, start=start, model=tiny_gguf, backbone=tiny_backbone, epochs=1,
                hold_out=False,
            )  # fmt: skip
            spec = read_spec(more.folder)
            assert spec.static
            assert spec.tasks[0].told() == "Sort it.\nAnswer with one of these, and nothing else: a, b."
            kept = [row for row in read_replay(more.folder).train if row.input == "cow 1"]
            assert [row.output for row in kept] == ["a"]


def test_a_resumed_run_needs_what_it_started_from(
    run: atv_train.TrainingResult, tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    start = copytree(run.folder, tmp_path / "start")
    steps = iter([False] * 4 + [True] * 99)
    hooks = atv_train.TrainingHooks(stopped=lambda: next(steps))
    stopped = atv_train.train(tiny_rows, tmp_path / "more", start=start, epochs=3, batch_size=8, hooks=hooks)
    other = atv_train.train(tiny_rows, tmp_path / "other", model=tiny_gguf, backbone=tiny_backbone, epochs=1)
    copytree(other.folder / "checkpoint", start / "checkpoint", dirs_exist_ok=True)
    with pytest.raises(DataError, match=r"start that it goes on from, has changed"):
        atv_train.resume(stopped.folder)
    with pytest.raises(UsageError, match="write to another folder"):
        atv_train.train(tiny_rows, start, start=start, overwrite=True)


def test_few_corrections_keep_the_last_epoch_and_say_so(
    run: atv_train.TrainingResult, tiny_rows: Path, tmp_path: Path
) -> None:
    right = write(tmp_path / "right.jsonl", {"input": "cow 1", "output": "a", "task": tiny_rows.stem})
    result = atv_train.train(right, tmp_path / "more", start=run.folder, epochs=3)
    assert (result.measure, result.metrics["epoch"]) == (None, 3)
    assert read_spec(result.folder).provenance.measure is None


def test_a_template_of_no_task_is_refused(run: atv_train.TrainingResult, tiny_rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names the task 'typo'"):
        atv_train.train(tiny_rows, tmp_path / "more", start=run.folder, templates={"typo": ["say {input}"]})


@pytest.mark.parametrize("damage", ["no K", "no scale", "external"])
def test_a_graph_that_another_program_wrote_is_refused(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path, damage: str
) -> None:
    result = atv_train.train(tiny_rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, epochs=1)
    bundle = tmp_path / "bundle"
    export(result, bundle, precisions="int8")
    graph = onnx.load(bundle / "onnx/model_int8.onnx")
    if damage == "no K":
        node = next(node for node in graph.graph.node if node.op_type == "MatMulNBits")
        del node.attribute[:]
    elif damage == "no scale":
        node = next(node for node in graph.graph.node if node.op_type in ("MatMulInteger", "MatMulNBits"))
        node.input[1] = graph.graph.initializer[0].name
    else:
        tensor = graph.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
    (bundle / "onnx/model_int8.onnx").write_bytes(graph.SerializeToString())
    manifest = json.loads((bundle / "atv.json").read_text())
    entry = tiny.entry(bundle / "onnx/model_int8.onnx")
    manifest["files"]["onnx/model_int8.onnx"] = entry.model_dump()
    (bundle / "atv.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        atv_train.train(tiny_rows, tmp_path / "x", start=bundle, model=tiny_gguf, backbone=tiny_backbone)


def test_rows_are_not_kept_if_nobody_wants_that(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    first = atv_train.train(
        tiny_rows, tmp_path / "a", model=tiny_gguf, backbone=tiny_backbone, epochs=1, keep_rows=False
    )
    assert not (first.folder / REPLAY).exists()
    assert not any("may be forgotten" in warning for warning in first.warnings)
    more = atv_train.train(tiny_rows, tmp_path / "b", start=first.folder, epochs=1)
    assert any("this run kept no rows" in warning for warning in more.warnings)


@pytest.mark.parametrize("start", ["run", "run without rows", "bundle"])
def test_it_learns_slower_beside_rows_of_earlier_tasks(
    tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, start: str
) -> None:
    """Without such rows there is nothing to keep in step with, so that a new task has all that a cold start has."""
    cars, boats = (
        write(tmp_path / f"{what}.jsonl", *({"input": f"{what} {n}", "output": "c"} for n in range(200)))
        for what in ("car", "boat")
    )
    kept = start == "run"
    plans: list[TrainingPlan] = []
    hooks = atv_train.TrainingHooks(on_plan=plans.append, stopped=lambda: True)
    first = atv_train.train(cars, tmp_path / "a", model=tiny_gguf, backbone=tiny_backbone, epochs=1, keep_rows=kept)
    folder = first.folder
    if start == "bundle":
        folder = tmp_path / "bundle"
        export(first, folder, precisions="fp32")
    atv_train.train(boats, tmp_path / "b", model=tiny_gguf, backbone=tiny_backbone, epochs=0, hooks=hooks)
    models: dict[str, Any] = {"model": tiny_gguf, "backbone": str(tiny_backbone)} if start == "bundle" else {}
    atv_train.train(boats, tmp_path / "c", start=folder, epochs=0, hooks=hooks, **models)
    usual, settings = (plan.settings for plan in plans)
    rates = [settings.learning_rate / usual.learning_rate]
    rates.append(settings.backbone_learning_rate / usual.backbone_learning_rate)
    assert rates == pytest.approx([0.2, 0.2] if kept else [1, 1])
    assert (settings.epochs < usual.epochs) if kept else (settings.epochs == usual.epochs)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("options", [{}, {"rank": 4}, {"prompt_vector": True, "layers": "2-3"}], ids=str)
def test_the_generator_of_a_bundle(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path, options: dict[str, Any], precision: Any
) -> None:
    result = atv_train.train(
        tiny_rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, **LEARNS | options | {"epochs": 3}
    )
    export(result, tmp_path / "bundle", precisions=precision)
    generator, _ = load_bundle(Bundle(tmp_path / "bundle"), str(tiny_backbone))
    _, exact, _ = load_checkpoint(result.folder)
    for (name, one), (_, other) in zip(generator.named_parameters(), exact.named_parameters(), strict=True):
        error = (one - other).detach().abs().max() / max(float(other.detach().abs().max()), 1e-6)
        assert error < {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.03}[precision], name
    rows = write(tmp_path / "cars.jsonl", *({"input": f"car {n}", "output": "c"} for n in range(12)))
    more = atv_train.train(
        rows, tmp_path / "more", start=tmp_path / "bundle", model=tiny_gguf, backbone=tiny_backbone, epochs=1
    )
    assert any("a bundle has no rows" in warning for warning in more.warnings)
    assert export(more, tmp_path / "again", precisions="int8").graphs["int8"].fidelity.error < 0.1
    assert more.before["valid_loss"] > 0


def test_a_bundle_of_another_backbone_is_refused(
    tiny_gguf: Path, tiny_bundle: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="has no weights for"):
        atv_train.train(tiny_rows, tmp_path / "x", start=tiny_bundle, model=tiny_gguf, backbone=tiny_backbone)
    vector = Generator(tiny_bundle, tried=True)("a pear")
    assert np.isfinite(vector.array).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"start": "nothing/here"}, NotFoundError, "nothing/here"),
        ({"rank": 3}, UsageError, "`rank` is None"),
        ({"layers": "1-2"}, UsageError, "`layers`"),
        ({"pooling": "last"}, UsageError, "`pooling` is mean"),
        ({"backbone": "another"}, UsageError, "`backbone`"),
    ],
)
def test_another_generator_is_refused(
    run: atv_train.TrainingResult, tiny_rows: Path, tmp_path: Path, options: dict[str, Any], error: type[AtvError],
    words: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=words):
        atv_train.train(tiny_rows, tmp_path / "x", **{"start": run.folder} | options)
    assert not (tmp_path / "x").exists()


def test_another_target_is_refused(run: atv_train.TrainingResult, tiny_rows: Path, tmp_path: Path) -> None:
    other = tiny.write_gguf(tmp_path / "other.gguf", n_layer=3)
    with pytest.raises(MismatchError, match="cannot be trained on for this target"):
        atv_train.train(tiny_rows, tmp_path / "x", start=run.folder, model=other)


def test_from_the_command_line(run: atv_train.TrainingResult, tiny_rows: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "right.jsonl", {"input": "cow 1", "output": "a", "task": tiny_rows.stem})
    arguments = ["train", "--from", run.folder, rows, "-o", tmp_path / "more", "--epochs", "1"]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    said = result.stderr
    assert "new        1 row, trained with" in said
    assert "in the run, so that --from can go on from this run" in said
    assert "start      valid" in said.replace("start      accuracy", "start      valid")
    assert "learned: " in said
    assert result.stdout == f"{tmp_path / 'more'}\n"
    arguments[arguments.index(tmp_path / "more")] = tmp_path / "x"
    refused = CliRunner().invoke(app, [*map(str, arguments), "--rank", "3"])
    assert refused.exit_code == 2
    assert "--rank is None in" in refused.stderr
    missing = CliRunner().invoke(app, ["train", "--from", "no/run", str(rows), "-o", str(tmp_path / "x")])
    assert missing.exit_code == 1
    assert "no/run" in missing.stderr
