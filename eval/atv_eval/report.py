"""The results of an evaluation, as Markdown, CSV and JSON. Measures nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atv_eval.answer_records import EvalRecord
from atv_eval.harm import Harm
from atv_eval.markdown import table
from atv_eval.methods import Method
from atv_eval.scores import MEAN, MethodScore
from atv_eval.statistics import Difference
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

    @property
    def failures(self) -> list[EvalRecord]:
        """Answers with an error; they count as wrong."""
        return [record for record in self.records if record.error]

    def as_dict(self) -> dict[str, Any]:
        """The result without its records, as values that JSON has."""
        values = {"version": 1} | asdict(replace(self, records=()))
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
    parts = [_scores(result)]
    if result.differences:
        head = ["steered over", "exact match", "p", "among the choices", "p"]
        rows = []
        for method, scores in result.differences.items():
            cells = [cell for name in ("exact", "choice") for cell in _difference(scores.get(name))]
            rows.append([method, *cells])
        parts.append("In points, paired by row; p of the exact McNemar test.\n\n" + table(head, rows))
    if result.harm:
        head = ["on unrelated queries", "KL, nats per token", "same token, %", "same answer, %"]
        rows = [
            [name, f"{harm.kl:.3f}", f"{100 * harm.agreement:.1f}", f"{100 * harm.same:.1f}"]
            for name, harm in result.harm.items()
        ]
        n = next(iter(result.harm.values())).n_queries
        parts.append(f"{n} unrelated queries, compared with the base model.\n\n" + table(head, rows))
    return "\n".join(parts)


def _csv(result: EvalResult) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("exact", "choice", "f1")
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    costs = ["prompt_tokens", "evaluated_tokens", "first_token_ms", "dropped", "errors"]
    writer.writerow(["task", "method", "rows", *columns, *costs])
    for s in result.scores:
        estimates = [getattr(s, name) for name in names]
        cells = [cell for e in estimates for cell in (("", "", "") if e is None else (e.value, e.low, e.high))]
        ms = result.first_token_ms.get(s.method, "")
        cost = [s.prompt_tokens, s.evaluated_tokens, ms, s.dropped, s.errors]
        writer.writerow([s.task, s.method, s.rows, *cells, *cost])
    return out.getvalue()


def _scores(result: EvalResult) -> str:
    with_choices = any(s.choice for s in result.scores)
    head = [
        "task, method",
        "rows",
        "exact match, %",
        *(["among the choices, %"] if with_choices else []),
        "macro-F1, %",
    ]
    head += ["prompt tokens", "evaluated", *(["first token, ms"] if result.first_token_ms else [])]
    rows = []
    for s in sorted(result.scores, key=lambda s: s.task == MEAN):
        cells = [f"{s.task}: {s.method}", str(s.rows), s.exact.percent()]
        if with_choices:
            cells.append(s.choice.percent() if s.choice else "")
        cells += [s.f1.percent() if s.f1 else "", f"{s.prompt_tokens:.0f}", f"{s.evaluated_tokens:.0f}"]
        if result.first_token_ms:
            cells.append(f"{result.first_token_ms[s.method]:.0f}" if s.method in result.first_token_ms else "")
        rows.append(cells)
    return table(head, rows)


def _difference(value: Difference | None) -> list[str]:
    if value is None:
        return ["", ""]
    return [value.percent(), "<0.001" if value.p < 0.001 else f"{value.p:.3f}"]
