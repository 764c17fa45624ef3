"""Scores of answers: their values by hand and by the libraries, and which of them a task has."""

from __future__ import annotations

import json
import random

import pytest

from atv_eval.eval_task import Task, TaskKind
from atv_eval.instructions import Instructions
from atv_eval.metrics import Metric, bleu, chrf, json_exact, json_valid, rouge_l, slot_f1, text_exact, token_f1
from atv_local.data.rows import Row
from atv_local.errors import UsageError

SLOTS = '{"intent": "book", "seats": 2, "names": ["Ann", "Bob"]}'


@pytest.mark.parametrize(
    ("score", "answer", "references", "value"),
    [
        *((text_exact, answer, ["ls  -l\n", "dir"], value) for answer, value in (("ls -l", 1), ("DIR", 0), ("", 0))),
        (token_f1, "The tower of London.", ["tower, london"], 2 * 2 / 5),
        *((token_f1, answer, ["a"], value) for answer, value in (("a", 1), ("A ", 1), ("the", 0), ("", 0))),
        (token_f1, "two cats", ["dogs", "cats"], 2 / 3),
        (rouge_l, "the cat sat", ["x y", "the dog sat"], 2 / 3),
        (json_valid, SLOTS, [SLOTS], 1),
        *((json_valid, answer, [SLOTS], 0) for answer in ("```\n{}\n```", "{", "2", "", "[" * 9999)),
        (json_exact, '{"names":["Ann","Bob"],"seats":2,"intent":"book"}', [SLOTS], 1),
        *((json_exact, answer, ['{"a": 1}'], 0) for answer in ('{"a": true}', '{"a": 1.5}', "no", "")),
        (slot_f1, f"Sure:\n```json\n{SLOTS}\n```", [SLOTS], 1),
        (slot_f1, '{"intent": "book", "seats": "2", "names": ["Bob", "Eve"]}', [SLOTS], 2 * 2 / 8),
        (slot_f1, '{"a": {"b": 1}}', ['{"b": 1}', '{"a": {"b": 1, "c": 2}}'], 2 / 3),
        *((slot_f1, answer, ["{}"], value) for answer, value in (("{}", 1), ('{"a": 1}', 0), ("none", 0))),
        (slot_f1, "[" * 9999, [SLOTS], 0),
        *((slot_f1, answer, ["n/a"], value) for answer, value in (("n/a", 1), ("{}", 0))),
        *((json_exact, answer, ["n/a"], value) for answer, value in (("n/a", 1), ("{}", 0))),
    ],
)  # fmt: skip
def test_values(score: object, answer: str, references: list[str], value: float) -> None:
    given = (answer,) if score is json_valid else (answer, references)
    assert score(*given) == pytest.approx(value)  # type: ignore[operator]


def test_chrf_and_bleu_are_sacrebleus() -> None:
    from sacrebleu.metrics import BLEU, CHRF

    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "more", "dog", "run", "home"]
    draw = random.Random(0)
    right = [[" ".join(draw.choices(words, k=9)) for _ in range(2)] for _ in range(20)]
    answers = [" ".join([*pair[0].split()[:6], *draw.choices(words, k=3)]) for pair in right]
    wanted = BLEU().corpus_score(answers, [list(side) for side in zip(*right, strict=True)])
    estimate = bleu(answers, right)
    assert estimate.value == pytest.approx(wanted.score / 100)
    assert 0 < estimate.low < estimate.value < estimate.high < 1
    assert chrf(answers[0], right[0]) == pytest.approx(CHRF().sentence_score(answers[0], right[0]).score / 100)
    assert chrf(right[0][1], right[0]) == pytest.approx(1)
    assert chrf("", right[0]) == 0


def task_of(outputs: list[str], *metrics: Metric, **fields: object) -> Task:
    rows = [Row(input=f"q{n}", output=output, **fields) for n, output in enumerate(outputs)]  # type: ignore[arg-type]
    return Task.of("t", rows, [], None, metrics)


@pytest.mark.parametrize(
    ("outputs", "kind", "main", "whole"),
    [
        (["yes", "no"] * 4, TaskKind.LABELS, Metric.EXACT, False),
        ([json.dumps({"n": n}) for n in range(5)], TaskKind.JSON, Metric.SLOT_F1, True),
        (["Paris", "New York", "Rome"], TaskKind.SHORT, Metric.EXACT, True),
        (["ls -l | wc", "cat x | grep y", "find . -name z"], TaskKind.TEXT, Metric.CHRF, True),
        ([".*[A-Z].*", "(ab)+", "~(x)"], TaskKind.TEXT, Metric.CHRF, True),
    ],
)
def test_a_task_has_the_metrics_of_its_kind(outputs: list[str], kind: TaskKind, main: Metric, whole: bool) -> None:
    task = task_of(outputs)
    assert (task.kind, task.main, task.whole) == (kind, main, whole)
    scores = task.score(task.rows[0], outputs[0], None)
    assert set(scores) == {metric for metric in task.metrics if metric.of_rows}
    assert all(score == 1 for score in scores.values())
    assert all(score < 1 for score in task.score(task.rows[0], "something else", None).values())


def test_rouge_is_left_out_where_it_reads_nothing() -> None:
    assert Metric.ROUGE_L not in task_of(["今天 天气 很好 吗", "我 不 知道 啊"]).metrics
    assert Metric.ROUGE_L in task_of(["how is the weather", "I do not know"]).metrics


def test_choices_make_labels_and_are_measured() -> None:
    task = task_of(["a", "b", "c"], choices=("a", "b", "c"))
    assert (task.kind, task.metrics) == (TaskKind.LABELS, (Metric.EXACT, Metric.CHOICE, Metric.MACRO_F1))
    assert task.score(task.rows[1], "A", "b") == {Metric.EXACT: 0, Metric.CHOICE: 1}


def test_metrics_that_are_given_are_those_that_suit() -> None:
    assert task_of(["one line", "two lines more"], Metric.BLEU).metrics == (Metric.BLEU, Metric.EXACT)
    labels = task_of(["a", "b"] * 3, Metric.SLOT_F1, Metric.CHRF)
    assert (labels.metrics, labels.main, labels.whole) == ((Metric.CHRF,), Metric.CHRF, True)
    assert not task_of(["Rome", "Oslo"], Metric.EXACT).whole
    with pytest.raises(UsageError, match="'t'"):
        task_of(["Rome", "Oslo"], Metric.SLOT_F1)


def test_some_rows_that_are_not_json_leave_the_task_json() -> None:
    outputs = [json.dumps({"n": n}) for n in range(18)]
    task = task_of([*outputs, "n/a", "none"])
    assert (task.kind, task.main) == (TaskKind.JSON, Metric.SLOT_F1)
    assert [task.score(row, row.output, None)[Metric.SLOT_F1] for row in task.rows] == [1] * 20
    assert "n" in (Instructions().of_task(task) or "")
    assert task_of([*outputs, *(f"no {n} at all, sorry" for n in range(3))]).kind is not TaskKind.JSON


def test_a_named_metric_that_can_be_computed_is_taken() -> None:
    mixed = task_of([SLOTS, "the first of many words", "the second of many words"], Metric.SLOT_F1, Metric.JSON_VALID)
    assert (mixed.kind, mixed.main) == (TaskKind.TEXT, Metric.SLOT_F1)
    assert mixed.metrics == (Metric.SLOT_F1, Metric.JSON_VALID)
    assert task_of(['{"a": 1}', '{"a": 2}'] * 4, Metric.SLOT_F1).main is Metric.SLOT_F1


def test_references_are_right_answers() -> None:
    short = task_of(["Rome", "Oslo"], references=("the eternal city",))
    assert short.score(short.rows[0], " The eternal city. ", None)[Metric.EXACT] == 1
    text = task_of(["echo $HOME | wc -c"], references=("printf  $HOME",))
    assert text.score(text.rows[0], "printf $HOME", None)[Metric.EXACT] == 1
