"""The results of an evaluation, as Markdown, CSV and JSON. Measures nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from atv_eval.answer_records import EvalRecord
from atv_eval.bundle_counts import BundleCounts
from atv_eval.gate_counts import GateCount
from atv_eval.harm import Harm
from atv_eval.markdown import table
from atv_eval.methods import Method
from atv_eval.metrics import Metric
from atv_eval.result_tables import DIFFERENCE_NOTE, bundle_table, difference_table, gate_table, harm_table, score_table
from atv_eval.scores import MAIN, MEAN, MethodScore
from atv_eval.statistics import Difference
from atv_eval.verdict import verdict
from atv_local.data import replacing


@dataclass(frozen=True)
class EvalResult:
    """The results of an evaluation and its settings."""

    about: Mapping[str, Any]
    records: Sequence[EvalRecord]
    """Every answer."""
    scores: Sequence[MethodScore]
    differences: Mapping[Method, Mapping[str, Difference]]
    """Steered minus each other method, by score, over all tasks."""
    first_token_ms: Mapping[Method, float]
    harm: Mapping[str, Harm]
    """To unrelated queries, of steering and of random vectors."""
    reading: Sequence[str] = ()
    """What the generator does not read of the rows, and which of them it cannot tell apart, as sentences."""
    gate: Mapping[str, GateCount] = field(default_factory=dict)
    """By task, how many rows the bundle's gate lets through; empty without a gate."""
    bundles: Mapping[str, BundleCounts] = field(default_factory=dict)
    """By task, which of several bundles the rows go to; empty with one bundle."""

    @property
    def verdict(self) -> str | None:
        """Steering beside the best alternative, in one sentence; None if one of them was not measured."""
        return verdict(self.scores, self.differences, self.about.get("shots", 0))

    @property
    def notes(self) -> list[str]:
        """What two of the methods read, a sentence each, where they were measured."""
        measured = {score.method for score in self.scores}
        classifier, learned = self.about.get("classifier_reads", "the bundle"), "static" in self.about
        notes = {
            Method.STATIC: f"`static` steers with {'learned vectors' if learned else 'the mean of the task vectors'}.",
            Method.CLASSIFIER: f"`classifier` reads {classifier}.",
        }
        return [note for method, note in notes.items() if method in measured]

    def method_name(self, method: Method) -> str:
        """A method, such as `classifier (2 of 3 tasks)` where it did not answer all."""
        tasks = {score.task for score in self.scores} - {MEAN}
        answered = {score.task for score in self.scores if score.method is method} & tasks
        return str(method) if answered == tasks else f"{method} ({len(answered)} of {len(tasks)} tasks)"

    @property
    def failures(self) -> list[EvalRecord]:
        """Answers with an error; they count as wrong."""
        return [record for record in self.records if record.error]

    def as_dict(self) -> dict[str, Any]:
        """The result without its records, as values that JSON has."""
        values = {"version": 2, "verdict": self.verdict} | asdict(replace(self, records=()))
        del values["records"]
        return values

    def as_json(self) -> str:
        """`as_dict` as indented JSON text."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """Tables with the intervals in brackets."""
        return _markdown(self)

    def as_csv(self) -> str:
        """One line for each task and method."""
        return _csv(self)

    def write(self, folder: Path) -> None:
        """Write `results.md`, `results.json` and `results.csv`.

        Raises:
            UsageError: they cannot be written.
        """
        for suffix, text in (("md", self.as_markdown()), ("json", self.as_json()), ("csv", self.as_csv())):
            with replacing(folder / f"results.{suffix}") as temporary:
                temporary.write_text(text, encoding="utf-8")


def _markdown(result: EvalResult) -> str:
    head, rows = score_table(result.scores, result.first_token_ms)
    parts = [table(head, rows), *(f"{note}\n" for note in result.notes)]
    parts += [f"{sentence[0].upper()}{sentence[1:]}.\n" for sentence in result.reading]
    if result.differences:
        head, rows = difference_table(
            {result.method_name(method): gaps for method, gaps in result.differences.items()},
            any(s.metric is None for s in result.scores),
        )
        parts.append(f"{DIFFERENCE_NOTE}\n\n{table(head, rows)}")
    if result.gate:
        parts.append(table(*gate_table(result.gate)))
    if result.bundles:
        parts.append(table(*bundle_table(result.bundles)))
    if result.harm:
        head, rows = harm_table(result.harm)
        n = next(iter(result.harm.values())).n_queries
        parts.append(f"{n} unrelated queries, compared with the base model.\n\n{table(head, rows)}")
    if result.verdict:
        parts.append(f"{result.verdict}\n")
    return "\n".join(parts)


def _csv(result: EvalResult) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = [metric for metric in Metric if any(metric in s.scores for s in result.scores)]
    columns = [f"{name}{end}" for name in (MAIN, *metrics) for end in ("", "_low", "_high")]
    costs = ["prompt_tokens", "evaluated_tokens", "first_token_ms", "dropped", "errors", "gate_steered"]
    writer.writerow(["task", "method", "rows", "metric", *columns, *costs])
    for s in result.scores:
        estimates = [s.main, *(s.scores.get(metric) for metric in metrics)]
        cells = [cell for e in estimates for cell in (("", "", "") if e is None else (e.value, e.low, e.high))]
        ms = result.first_token_ms.get(s.method, "")
        cost = [s.prompt_tokens, s.evaluated_tokens, ms, s.dropped, s.errors, _gated(result, s)]
        writer.writerow([s.task, s.method, s.rows, s.metric or "", *cells, *cost])
    return out.getvalue()


def _gated(result: EvalResult, score: MethodScore) -> int | str:
    """The rows behind a score that the gate lets through."""
    tasks = result.gate if score.task == MEAN else {score.task} & result.gate.keys()
    if score.method is not Method.STEERED or not tasks:
        return ""
    return sum(result.gate[task].steered for task in tasks)
