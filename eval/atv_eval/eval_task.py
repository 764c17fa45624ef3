"""One task of an evaluation: its rows, what kind of answers it has, and how they are scored."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from atv_eval.match import AnswerMatcher
from atv_eval.metrics import (
    Metric,
    chrf,
    is_json_container,
    json_exact,
    json_valid,
    rouge_l,
    slot_f1,
    text_exact,
    token_f1,
)
from atv_local.data import MAX_LABELS, Row, are_labels
from atv_local.errors import UsageError
from atv_local.vectors import ControlVector

MAX_SHORT_WORDS = 3
"""Words of the median output up to which answers are short: names, numbers, a translated word."""

JSON_SHARE = 0.9
"""Of the outputs, from which on a task is JSON in spite of some rows that are not, such as "n/a"."""


class TaskKind(StrEnum):
    """What the outputs of a task are."""

    LABELS = "labels"
    JSON = "json"
    SHORT = "short answers"
    TEXT = "text"


_METRICS = {
    TaskKind.LABELS: (Metric.EXACT, Metric.CHOICE, Metric.MACRO_F1),
    TaskKind.JSON: (Metric.SLOT_F1, Metric.JSON_VALID, Metric.EXACT),
    TaskKind.SHORT: (Metric.EXACT, Metric.TOKEN_F1),
    TaskKind.TEXT: (Metric.CHRF, Metric.ROUGE_L, Metric.TOKEN_F1, Metric.EXACT),
}
"""The metrics of each kind, the main one first."""
_SCORES = {
    Metric.TOKEN_F1: token_f1,
    Metric.CHRF: chrf,
    Metric.ROUGE_L: rouge_l,
    Metric.JSON_VALID: lambda answer, _: json_valid(answer),
    Metric.SLOT_F1: slot_f1,
}


@dataclass(frozen=True)
class Task:
    """Rows to answer, rows to show, and how answers are scored."""

    name: str
    rows: Sequence[Row]
    pool: Sequence[Row]
    labels: tuple[str, ...]
    """What an answer can be: the outputs and choices of all rows; empty if they are written for each row."""
    kind: TaskKind
    metrics: tuple[Metric, ...]
    """At least one of them has a score for each row."""
    learned: ControlVector | None = None
    """The static vector of the task, in place of the mean of the bundle's."""

    @classmethod
    def of(
        cls,
        name: str,
        rows: Sequence[Row],
        pool: Sequence[Row],
        limit: int | None = None,
        metrics: Collection[Metric] = (),
    ) -> Task:
        """A task from rows, the first `limit` of them to answer, and rows to show. All rows say what kind it is.

        Args:
            name: of the task.
            rows: to answer.
            pool: to show.
            limit: how many of `rows` to answer.
            metrics: those to measure, of which the ones that can be computed are taken; by default those of its kind.

        Raises:
            UsageError: none of the metrics can be computed.
        """
        every = [*rows, *pool]
        outputs = [row.output for row in every]
        choices = [row.choices for row in rows]
        shared = choices[0] is not None and all(some == choices[0] for some in choices)
        labels = dict.fromkeys(label for row in every for label in (row.output, *(row.choices or ())))
        fixed = shared or (are_labels(outputs) and len(labels) <= MAX_LABELS)
        kind = TaskKind.LABELS if fixed or all(choices) else _kind_of_texts(outputs)
        wanted = metrics or _defaults(kind, outputs)
        suited = [metric for metric in wanted if _computable(metric, outputs, fixed, all(choices))]
        if not any(metric.of_rows for metric in suited):
            if not suited:
                raise UsageError(f"none of `metrics` suits task {name!r}, whose outputs are {kind}; leave it out")
            suited.append(Metric.EXACT)
        return cls(name, rows[:limit], pool, tuple(labels) if fixed else (), kind, tuple(suited))

    @property
    def main(self) -> Metric:
        """The metric by which methods are compared: the first that scores each row."""
        return next(metric for metric in self.metrics if metric.of_rows)

    @property
    def whole(self) -> bool:
        """Whether a score needs the answer to its end, and not only up to where it can be no label any more."""
        matched = {Metric.EXACT, Metric.CHOICE, Metric.MACRO_F1}
        return self.kind not in (TaskKind.LABELS, TaskKind.SHORT) or not matched.issuperset(self.metrics)

    def candidates(self, row: Row) -> tuple[str, ...]:
        """What an answer to this row can be: a label, or a right answer."""
        return self.labels or row.choices or right_answers(row)

    def match(self, row: Row, answer: str) -> str | None:
        """The candidate that an answer is; None also for kinds of text that are compared otherwise."""
        if self.kind not in (TaskKind.LABELS, TaskKind.SHORT):
            return None
        return AnswerMatcher(self.candidates(row)).match(answer)

    def score(self, row: Row, answer: str, chosen: str | None) -> dict[Metric, float]:
        """The metrics of one answer that has no error, those of all rows together left out.

        Args:
            row: that was answered.
            answer: to it.
            chosen: the most likely of the row's choices.
        """
        right = right_answers(row)
        scores: dict[Metric, float] = {}
        for metric in self.metrics:
            if metric is Metric.EXACT:
                scores[metric] = self._exact(row, answer, right)
            elif metric is Metric.CHOICE:
                scores[metric] = float(chosen in right)
            elif metric.of_rows:
                scores[metric] = _SCORES[metric](answer, right)
        return scores

    def _exact(self, row: Row, answer: str, right: tuple[str, ...]) -> float:
        if self.kind is TaskKind.JSON:
            return json_exact(answer, right)
        if self.kind is TaskKind.TEXT:
            return text_exact(answer, right)
        return float(self.match(row, answer) in right)


def right_answers(row: Row) -> tuple[str, ...]:
    """The output of a row and its references."""
    return (row.output, *(row.references or ()))


def _kind_of_texts(outputs: Sequence[str]) -> TaskKind:
    if sum(map(is_json_container, outputs)) >= JSON_SHARE * len(outputs):
        return TaskKind.JSON
    words = median(len(output.split()) for output in outputs)
    plain = sum(len(re.findall(r"[\w\s]", output)) for output in outputs) >= 0.9 * sum(map(len, outputs))
    return TaskKind.SHORT if words <= MAX_SHORT_WORDS and plain else TaskKind.TEXT


def _defaults(kind: TaskKind, outputs: Sequence[str]) -> list[Metric]:
    letters = [letter for output in outputs for letter in output if letter.isalnum()]
    latin = 2 * sum(map(str.isascii, letters)) >= len(letters)  # ROUGE-L sees nothing else
    return [metric for metric in _METRICS[kind] if latin or metric is not Metric.ROUGE_L]


def _computable(metric: Metric, outputs: Sequence[str], fixed: bool, choices: bool) -> bool:
    if metric is Metric.CHOICE:
        return choices
    if metric is Metric.MACRO_F1:
        return fixed
    return metric not in (Metric.JSON_VALID, Metric.SLOT_F1) or any(map(is_json_container, outputs))
