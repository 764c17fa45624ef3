"""Evaluations: records are what the engine answers, and an evaluation that was stopped resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atv_eval.answer_records import RECORDS, EvalRecord, _records, answer_plan, fingerprint
from atv_eval.eval_plan import EvalPlan
from atv_eval.methods import Method
from atv_eval.metrics import Metric
from atv_eval.questions import QuestionBuilder
from atv_eval.scores import differences, score_methods
from atv_eval.tasks import read_tasks
from atv_local.answer.constraint import choose_answer
from atv_local.answer.engine import Engine
from atv_local.answer.loading import load
from atv_local.answer.router import GatedVector
from atv_local.batch.question import BatchReply, Outcome
from atv_local.data.columns import DEFAULT_COLUMNS
from atv_local.errors import BundleError, UsageError
from atv_local.generator.generator import Generator
from atv_local.target.target import Target
from atv_local.vectors.steering import OFF, Steering
from tests.eval.tasks import plan_of, write_task
from tests.tiny import FRUITS, write_told


def test_records_are_what_the_engine_answers(tiny: Engine, asked: Path, shown: Path) -> None:
    plan = plan_of(asked, shown, *Method)
    records = answer_plan(plan, tiny, None)
    assert len(records) == 160
    for record in records:
        row = json.loads(asked.read_text().splitlines()[record.row])
        if record.method in (Method.BASE, Method.STEERED):
            steering = OFF if record.method is Method.BASE else tiny.steering
            whole = tiny.answer(row["input"], steering=steering, max_tokens=9).text
            assert whole.startswith(record.answer.rstrip("\N{REPLACEMENT CHARACTER}"))
            assert (whole.strip() == row["output"]) == (record.matched == record.output)
        assert record.chosen in ("a", "b")
        assert (record.prompt_tokens > 0) == record.method.asks_target
    by_method = {score.method: score for score in score_methods(records, plan.tasks)}
    assert by_method[Method.STEERED].main.value > 0.9  # the tiny generator was trained on such rows
    assert Metric.CHOICE in by_method[Method.STEERED].scores
    assert by_method[Method.SHOTS].prompt_tokens > 3 * by_method[Method.BASE].prompt_tokens
    assert by_method[Method.BASE].prompt_tokens == by_method[Method.STEERED].prompt_tokens
    assert by_method[Method.NEAREST].main.value > 0.9  # the rows to show have the same words
    assert by_method[Method.CLASSIFIER].main.value > 0.9
    assert by_method[Method.ZERO_SHOT].prompt_tokens > by_method[Method.BASE].prompt_tokens
    exact = differences(records, plan.tasks)[Method.BASE]["exact"]
    assert exact.value == pytest.approx(by_method[Method.STEERED].main.value - by_method[Method.BASE].main.value)


def test_choices_are_made_as_run_makes_them(tiny_gguf: Path, gated_bundle: Path, tmp_path: Path) -> None:
    """A query unlike the tasks of a bundle: its static vector writes the answer, and the base model chooses."""
    values = np.random.default_rng(5).normal(0, 3, (3, 64)).astype(np.float32)
    folder = write_told(tmp_path / "told", gated_bundle, {"sort": "Sort the word."}, values)
    told, choices = "Do something else.", ["red", "green", "blue"]
    lines = [{"input": f"thing {n}", "output": "red", "instruction": told, "choices": choices} for n in range(4)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Engine(Target(tiny_gguf, n_threads=1), Generator(folder, tried=True)) as engine:
        plan = replace(plan_of(rows, None, Method.STEERED), steering=engine.steering)
        records = answer_plan(plan, engine, None)
        assert len(records) == len(lines)
        for record, line in zip(records, lines, strict=True):
            answer = engine.answer(line["input"], instruction=told, choices=choices)
            assert record.chosen == answer.text
            free = engine.asked(line["input"], instruction=told, listed=choices)
            assert free.static
            vector = engine.gated(free).vector
            written = engine.answer(free.text, vector=vector, steering=engine.steering, max_tokens=9)
            assert written.text.startswith(record.answer.rstrip("\N{REPLACEMENT CHARACTER}"))


def test_the_vector_is_made_from_the_query_alone(tiny: Engine, asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    made = tiny.gated_vector
    monkeypatch.setattr(tiny, "gated_vector", lambda query, **how: (read.append(query), made(query, **how))[1])
    answer_plan(plan_of(asked), tiny, None)
    assert sorted(read) == sorted(json.loads(line)["input"] for line in asked.read_text().splitlines())


def test_a_row_that_cannot_be_asked_is_wrong_in_every_way(
    tiny: Engine, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, failing = tiny.gated_vector, json.loads(asked.read_text().splitlines()[1])["input"]

    def gated_vector(query: str, **how: Any) -> GatedVector:
        if query == failing:
            raise BundleError("it cannot be read")
        return made(query, **how)

    monkeypatch.setattr(tiny, "gated_vector", gated_vector)
    records = answer_plan(plan_of(asked), tiny, None)
    assert {(record.row, record.method) for record in records if record.error} == {
        (1, Method.BASE),
        (1, Method.STEERED),
    }


def test_the_static_vector_is_the_mean_over_rows(tiny: Engine, asked: Path, shown: Path) -> None:
    (first, *_) = QuestionBuilder(plan_of(asked, shown, Method.STATIC), tiny).questions({})
    queries = [json.loads(line)["input"] for line in shown.read_text().splitlines()]
    mean = np.mean([tiny.vector(query).array for query in queries], axis=0)
    assert first.ways[0].rows is not None
    assert np.allclose(first.ways[0].rows.array, mean, atol=1e-5)


def test_an_answer_is_read_until_it_is_decided(tiny: Engine, asked: Path) -> None:
    short = answer_plan(plan_of(asked, max_tokens=12), tiny, None)
    whole = answer_plan(plan_of(asked, max_tokens=12, whole=True), tiny, None)
    assert [record.matched for record in short] == [record.matched for record in whole]
    assert [record.chosen for record in short] == [record.chosen for record in whole]
    assert sum(record.generated_tokens for record in short) < sum(record.generated_tokens for record in whole)


def test_an_evaluation_goes_on_where_it_was(tiny: Engine, asked: Path, tmp_path: Path) -> None:
    plan, folder = plan_of(asked), tmp_path / "out"

    def stop(record: EvalRecord) -> None:
        if record.row == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_plan(plan, tiny, folder, stop)
    file = folder / RECORDS
    kept = file.read_text().splitlines()
    assert 1 < len(kept) < 30
    file.write_text("\n".join(kept) + '\n{"task": "kinds", "ro')  # as a crash leaves it
    seen: list[EvalRecord] = []
    again = answer_plan(plan, tiny, folder, seen.append)
    assert again == answer_plan(plan, tiny, None)
    assert len(seen) == 40
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({(line["row"], line["method"]) for line in lines}) == len(lines) == 40
    with pytest.raises(UsageError, match="strength"):
        answer_plan(EvalPlan(plan.tasks, plan.methods, Steering(0.5), n_shots=4), tiny, folder)
    (tmp_path / "others").mkdir()
    others = write_task(tmp_path / "others" / "kinds.jsonl", ["fig 3", "cat 3", "fig 4", "cat 4"])
    other = read_tasks([others], [], DEFAULT_COLUMNS, None, False)
    with pytest.raises(UsageError, match="another row 1"):
        answer_plan(EvalPlan(other, plan.methods, Steering(), n_shots=4), tiny, folder)
    file.write_text("hello\n")
    with pytest.raises(UsageError, match="not a record of an answer"):
        answer_plan(plan, tiny, folder)


def test_demonstrations_that_do_not_fit_are_left_out(tiny_gguf: Path, asked: Path, tmp_path: Path) -> None:
    engine = load(tiny_gguf, off=True, n_ctx=256, n_threads=1)
    (tmp_path / "long").mkdir()
    shown = write_task(tmp_path / "long" / "kinds.jsonl", [f"{word} {'x' * 80}" for word in FRUITS])
    records = answer_plan(plan_of(asked, shown, Method.SHOTS, Method.BM25), engine, None)
    assert all(
        0 < record.dropped < 4 and record.prompt_tokens <= engine.target.n_ctx and not record.error
        for record in records
    )


def test_two_evaluations_do_not_share_a_folder(tiny: Engine, asked: Path, tmp_path: Path) -> None:
    def meanwhile(_: EvalRecord) -> None:
        with pytest.raises(UsageError, match="another process"):
            answer_plan(plan_of(asked), tiny, tmp_path / "out")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_plan(plan_of(asked), tiny, tmp_path / "out", meanwhile)


def test_the_classifier_reads_the_backbone_where_the_bundle_gives_it(
    tiny: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a query ends in is in the state here."""

    def pooled(query: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([float(query.endswith("9")), 1.0], dtype=np.float32)

    def write(name: str, numbers: list[int]) -> Path:
        rows = [{"input": f"cat {n}", "output": "b" if n % 10 == 9 else "a", "task": "end"} for n in numbers]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    asked, shown = write("asked.jsonl", [29, 38, 49, 58]), write("shown.jsonl", [9, 18, 19, 8])
    plan = plan_of(asked, shown, Method.CLASSIFIER)
    assert tiny.generator is not None
    reads = []
    for state in (pooled, lambda _: None):
        monkeypatch.setattr(tiny.generator, "pooled", state)
        right = [record.answer == record.output for record in answer_plan(plan, tiny, None)]
        reads.append((fingerprint(plan, tiny)["classifier_reads"], all(right)))
    assert reads[0][1]
    assert reads[0][0] != reads[1][0]


@pytest.mark.parametrize("choices", [("a", "b"), ("b", "a")])
def test_of_choices_alike_the_first_is_chosen(tiny: Engine, tmp_path: Path, choices: tuple[str, str]) -> None:
    """As a restricted answer has it."""
    plan = plan_of(write_task(tmp_path / "kinds.jsonl", ["cat 1"], list(choices)), None, Method.BASE)
    (question,) = QuestionBuilder(plan, tiny).questions({})
    reply = BatchReply(question, (Outcome("", (), None, (-1.0, -1.0)),), 0)
    (record,) = _records(reply, {task.name: task for task in plan.tasks})
    assert record.chosen == choices[0] == choose_answer(choices, [-1.0, -1.0], None)[0]
