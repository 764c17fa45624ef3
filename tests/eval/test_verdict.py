"""Scores of made-up answers, the sentence about them, and the tables of a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from atv_cli.screen.eval_progress import EvalProgress
from atv_cli.screen.eval_tables import print_results
from atv_eval.answer_records import EvalRecord
from atv_eval.eval_plan import EvalPlan
from atv_eval.eval_task import Task
from atv_eval.methods import Method
from atv_eval.metrics import Metric
from atv_eval.report import EvalResult
from atv_eval.scores import MEAN, differences, score_methods
from atv_local.data.rows import Row
from atv_local.vectors.steering import Steering

N = 40
LABELS = Task.of("kinds", [Row(input=f"q{n}", output="ab"[n % 2]) for n in range(N)], [])
SLOTS = Task.of("slots", [Row(input=f"q{n}", output=json.dumps({"n": n, "m": 1})) for n in range(N)], [])


def result_of(tasks: Sequence[Task], right: Mapping[Method, int]) -> EvalResult:
    """The first rows of each method are right, in slots the others half right."""
    records = []
    for method, count in right.items():
        for task in tasks[: 1 if method is Method.CLASSIFIER else None]:
            for index, row in enumerate(task.rows):
                answer = row.output if index < count else '{"m": 1}'
                matched = task.match(row, answer)
                record = EvalRecord(task.name, index, "", method, row.output, answer, matched, None, 9, 9, 3, 0, 0)
                records.append(replace(record, scores=task.score(row, answer, None)))
    return EvalResult({"shots": 4}, records, score_methods(records, tasks), differences(records, tasks), {}, {})


@pytest.mark.parametrize(
    ("steered", "said"), [(36, "better than"), (2, "worse than"), (21, "No clear difference between")]
)
def test_the_verdict_is_about_the_best_alternative(steered: int, said: str) -> None:
    verdict = result_of([LABELS], {Method.BASE: 4, Method.STEERED: steered, Method.BM25: 20}).verdict
    assert verdict is not None
    assert said in verdict
    assert f"{abs(steered - 20) / N * 100:.1f} points [" in verdict
    assert "bm25 with 4 rows" in verdict
    assert f"{N} rows)" in verdict
    assert verdict.endswith(" points would have been found in four of five tries.") is said.startswith("No clear")


def test_the_verdict_says_if_no_difference_would_have_been_found() -> None:
    result = result_of([LABELS], {Method.BASE: 20, Method.STEERED: 21})
    gap = replace(result.differences[Method.BASE]["main"], detectable=None)
    verdict = replace(result, differences={Method.BASE: {"main": gap}}).verdict
    assert verdict is not None
    assert verdict.endswith("; no difference would have been found in four of five tries.")


@pytest.mark.parametrize(("rows", "said"), [(1, "1 row)"), (7, "7 rows)"), (8, None)])
def test_of_few_rows_nothing_can_be_told(rows: int, said: str | None) -> None:
    task = Task.of("kinds", LABELS.rows[:rows], LABELS.rows[rows:])
    verdict = result_of([task], {Method.BASE: 0, Method.STEERED: rows}).verdict
    assert verdict is not None
    assert verdict.startswith("Too few rows") is (said is not None)
    assert "100.0 points [" in verdict
    assert (said or "p = 0.0") in verdict


def test_without_steering_or_an_alternative_there_is_no_verdict() -> None:
    assert result_of([LABELS], {Method.STEERED: 3}).verdict is None
    assert result_of([LABELS], {Method.BASE: 3, Method.BM25: 5}).verdict is None


def test_tasks_with_different_metrics_have_a_mean_of_their_main_ones() -> None:
    result = result_of([LABELS, SLOTS], {Method.BASE: 0, Method.STEERED: 40, Method.CLASSIFIER: 40})
    scores = {(score.task, score.method): score for score in result.scores}
    assert (scores["kinds", Method.BASE].metric, scores["slots", Method.BASE].metric) == (Metric.EXACT, Metric.SLOT_F1)
    mean = scores[MEAN, Method.BASE]
    assert mean.metric is None
    assert mean.main.value == pytest.approx((0 + 2 / 3) / 2)
    assert set(mean.scores) == {Metric.EXACT}
    assert (MEAN, Method.CLASSIFIER) not in scores  # it has no answers to slots, so it is not the best alternative
    assert result.verdict is not None
    assert "that answered all tasks, base" in result.verdict
    assert "| classifier (1 of 2 tasks) |" in result.as_markdown()
    gap = result.differences[Method.BASE]["main"]
    assert gap.value == pytest.approx(1 - (0 + 2 / 3) / 2)
    assert gap.p < 0.001


def test_a_terminal_has_a_table_for_each_task_and_the_verdict_last(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of([LABELS, SLOTS], {Method.BASE: 4, Method.STEERED: 30})
    print_results(result)
    text = capsys.readouterr().out
    for score in result.scores:
        assert score.main.percent() in text
    assert text.index("kinds") < text.index("slots") < text.index(MEAN)
    assert " ".join(text.split()).endswith(result.verdict or "none")


def test_names_of_tasks_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    task = replace(LABELS, name="a[/b][red]:100:")
    print_results(result_of([task], {Method.BASE: 4, Method.STEERED: 30}))
    assert "a[/b][red]:100:" in capsys.readouterr().out


def test_the_live_view_has_the_main_metric_so_far() -> None:
    tasks = [LABELS, SLOTS]
    view = EvalProgress()
    view.begin(EvalPlan(tasks, [Method.BASE, Method.STEERED], Steering()))
    for record in result_of(tasks, {Method.BASE: 10}).records:
        view.show(record)
    console = Console(file=io.StringIO(), width=80)
    console.print(*view.above())
    _, labels, slots = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO
    assert labels.split() == ["kinds", "25.0"]
    assert slots.split() == ["slots", f"{100 * (10 + 30 * 2 / 3) / N:.1f}"]
