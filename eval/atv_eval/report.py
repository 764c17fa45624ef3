"""From records to a summary, and from a summary to Markdown, CSV and JSON. Measures nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_eval.bench import table
from atv_eval.evaluation import EvalRecord
from atv_eval.harm import Harm
from atv_eval.methods import Method
from atv_eval.statistics import Difference, Estimate, difference, macro_f1, mean_over_tasks

MEAN = "mean of tasks"


@dataclass(frozen=True)
class Score:
    """One method on one task, or on the mean of all."""

    task: str
    method: Method
    rows: int
    exact: Estimate
    """Share of greedy answers that are right."""
    choice: Estimate | None
    """Share of rows whose right choice is the most likely one, where all rows have choices."""
    f1: Estimate | None
    """Macro-F1 of the greedy answers; of a task."""
    prompt_tokens: float
    evaluated_tokens: float
    """Of prompt and answer, beyond what the prompts of a method have in common; mean of rows."""
    dropped: float
    """Demonstrations that did not fit, mean of rows."""
    errors: int


@dataclass(frozen=True)
class Summary:
    """What an evaluation gave, and of what."""

    about: Mapping[str, Any]
    scores: Sequence[Score]
    differences: Mapping[Method, Mapping[str, Difference]]
    """Steered minus each other method, by score, over all tasks."""
    first_token_ms: Mapping[Method, float]
    harm: Mapping[str, Harm]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"version": 1} | asdict(self)


def score(records: Sequence[EvalRecord]) -> list[Score]:
    """Every task and method, and the mean of the tasks for each method where there are several."""
    found = []
    methods = sorted({r.method for r in records}, key=list(Method).index)
    tasks = list(dict.fromkeys(r.task for r in records))
    for method in methods:
        rows = {task: [r for r in records if r.task == task and r.method == method] for task in tasks}
        rows = {task: some for task, some in rows.items() if some}
        found += [_score(task, method, {task: some}) for task, some in rows.items()]
        if len(rows) > 1:
            found.append(_score(MEAN, method, rows))
    return found


def compare(records: Sequence[EvalRecord]) -> dict[Method, dict[str, Difference]]:
    """What steering gives over each other method, on the rows both have answered."""
    ours = {r.key[:2]: r for r in records if r.method is Method.STEERED}
    found: dict[Method, dict[str, Difference]] = {}
    for method in (Method.BASE, Method.SHOTS, Method.BM25):
        theirs = [r for r in records if r.method is method and r.key[:2] in ours]
        if theirs:
            pairs = [[ours[r.key[:2]] for r in theirs], theirs]
            found[method] = {"exact": difference(*(_hits(side, _exact) for side in pairs))}
            if all(r.n_choices > 0 for side in pairs for r in side):
                found[method]["choice"] = difference(*(_hits(side, _choice) for side in pairs))
    return found


def markdown(summary: Summary) -> str:
    """Tables with the intervals in brackets."""
    parts = [_scores(summary)]
    if summary.differences:
        head = ["steered over", "exact match", "p", "among the choices", "p"]
        rows = []
        for method, scores in summary.differences.items():
            cells = [cell for name in ("exact", "choice") for cell in _difference(scores.get(name))]
            rows.append([method, *cells])
        parts.append("In points, paired by row; p of the exact McNemar test.\n\n" + table(head, rows))
    if summary.harm:
        head = ["outside the tasks", "KL, nats a token", "tokens that stay, %", "answers that stay, %"]
        rows = [
            [name, f"{harm.kl:.3f}", f"{100 * harm.agreement:.1f}", f"{100 * harm.same:.1f}"]
            for name, harm in summary.harm.items()
        ]
        n = next(iter(summary.harm.values())).n_queries
        parts.append(f"{n} queries outside the tasks, against the base model.\n\n" + table(head, rows))
    return "\n".join(parts)


def as_csv(summary: Summary) -> str:
    """One line for each task and method."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("exact", "choice", "f1")
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    costs = ["prompt_tokens", "evaluated_tokens", "first_token_ms", "dropped", "errors"]
    writer.writerow(["task", "method", "rows", *columns, *costs])
    for s in summary.scores:
        estimates = [getattr(s, name) for name in names]
        cells = [cell for e in estimates for cell in (("", "", "") if e is None else (e.value, e.low, e.high))]
        ms = summary.first_token_ms.get(s.method, "")
        cost = [s.prompt_tokens, s.evaluated_tokens, ms, s.dropped, s.errors]
        writer.writerow([s.task, s.method, s.rows, *cells, *cost])
    return out.getvalue()


def _scores(summary: Summary) -> str:
    with_choices = any(s.choice for s in summary.scores)
    head = [
        "task, method",
        "rows",
        "exact match, %",
        *(["among the choices, %"] if with_choices else []),
        "macro-F1, %",
    ]
    head += ["prompt tokens", "evaluated", *(["first token, ms"] if summary.first_token_ms else [])]
    rows = []
    for s in sorted(summary.scores, key=lambda s: s.task == MEAN):
        cells = [f"{s.task}: {s.method}", str(s.rows), s.exact.percent()]
        if with_choices:
            cells.append(s.choice.percent() if s.choice else "")
        cells += [s.f1.percent() if s.f1 else "", f"{s.prompt_tokens:.0f}", f"{s.evaluated_tokens:.0f}"]
        if summary.first_token_ms:
            cells.append(f"{summary.first_token_ms[s.method]:.0f}" if s.method in summary.first_token_ms else "")
        rows.append(cells)
    return table(head, rows)


def _difference(found: Difference | None) -> list[str]:
    return ["", ""] if found is None else [found.percent(), "<0.001" if found.p < 0.001 else f"{found.p:.3f}"]


def _score(task: str, method: Method, tasks: Mapping[str, Sequence[EvalRecord]]) -> Score:
    every = [record for records in tasks.values() for record in records]
    all_choose = all(record.n_choices > 0 for record in every)
    one = next(iter(tasks.values()))
    labelled = len(tasks) == 1 and len({record.output for record in one}) * 2 <= len(one)
    return Score(
        task=task,
        method=method,
        rows=len(every),
        exact=mean_over_tasks(_hits(every, _exact)),
        choice=mean_over_tasks(_hits(every, _choice)) if all_choose else None,
        f1=macro_f1([r.output for r in one], [r.said for r in one]) if labelled else None,
        prompt_tokens=float(np.mean([r.prompt_tokens for r in every])),
        evaluated_tokens=float(np.mean([r.evaluated_tokens for r in every])),
        dropped=float(np.mean([r.dropped for r in every])),
        errors=sum(r.error is not None for r in every),
    )


def _hits(records: Sequence[EvalRecord], hit: Any) -> dict[str, NDArray[np.float64]]:
    tasks: dict[str, list[float]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(float(hit(record)))
    return {task: np.array(hits) for task, hits in tasks.items()}


def _exact(record: EvalRecord) -> bool:
    return record.said == record.output


def _choice(record: EvalRecord) -> bool:
    return record.chosen == record.output
