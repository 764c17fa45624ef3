"""The results of an evaluation as rows of text, for Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atv_eval.bundle_counts import BundleCounts
from atv_eval.gate_counts import GateCount
from atv_eval.harm import Harm
from atv_eval.methods import Method
from atv_eval.metrics import Metric
from atv_eval.scores import MAIN, MEAN, MethodScore
from atv_eval.statistics import Difference

DIFFERENCE_NOTE = (
    "In points, paired by row; p of the exact McNemar test, or of a permutation test for tasks of different sizes "
    "and for scores between right and wrong."
)

TextTable = tuple[list[str], list[list[str]]]
"""A head and rows of cells."""


def score_table(scores: Sequence[MethodScore], first_token_ms: Mapping[Method, float]) -> TextTable:
    """A row for each task and method, the mean of the tasks last. Columns are the metrics that any of them has."""
    metrics = [metric for metric in Metric if any(metric in s.scores for s in scores)]
    mixed = any(s.metric is None for s in scores)
    head = ["task, method", "rows", *(["main metric, %"] if mixed else [])]
    head += [f"{metric.heading}, %" for metric in metrics]
    head += ["prompt tokens", "evaluated", *(["first token, ms"] if first_token_ms else [])]
    rows = []
    for s in sorted(scores, key=lambda s: s.task == MEAN):
        cells = [f"{s.task}: {s.method}", str(s.rows), *([s.main.percent()] if mixed else [])]
        cells += [s.scores[metric].percent() if metric in s.scores else "" for metric in metrics]
        cells += [f"{s.prompt_tokens:.0f}", f"{s.evaluated_tokens:.0f}"]
        if first_token_ms:
            cells.append(f"{first_token_ms[s.method]:.0f}" if s.method in first_token_ms else "")
        rows.append(cells)
    return head, rows


def difference_table(differences: Mapping[str, Mapping[str, Difference]], mixed: bool) -> TextTable:
    """Steering over each other method.

    Args:
        differences: by the name of the method, of `scores.differences`.
        mixed: whether the tasks have different main metrics.
    """
    found = {name for scores in differences.values() for name in scores}
    metrics = [metric for metric in Metric if metric in found]
    names = [*([MAIN] if mixed or not metrics else []), *metrics]
    head = ["steered over"]
    for name in names:
        head += ["main metric" if name == MAIN else Metric(name).heading, "p"]
    rows = [[method, *(cell for name in names for cell in _cells(d.get(name)))] for method, d in differences.items()]
    return head, rows


def harm_table(harm: Mapping[str, Harm]) -> TextTable:
    """What steering does to unrelated queries."""
    gated = any(one.n_steered is not None for one in harm.values())
    head = ["on unrelated queries", "KL, nats per token", "same token, %", "same answer, %", *["steered, %"] * gated]
    rows = [
        [name, f"{one.kl:.3f}", *(f"{100 * share:.1f}" for share in (one.agreement, one.same, *_steered(one)))]
        for name, one in harm.items()
    ]
    return head, rows


def gate_table(counts: Mapping[str, GateCount]) -> TextTable:
    """The rows of each task that the gate lets through."""
    rows = [[task, str(count.rows), str(count.steered), count.percent()] for task, count in counts.items()]
    return ["the gate", "rows", "steered", "steered, %"], rows


def bundle_table(counts: Mapping[str, BundleCounts]) -> TextTable:
    """The rows of each task by the bundle that steers them, and those that several gates accept."""
    names = next(iter(counts.values())).steered
    rows = [
        [task, *map(str, (count.rows, *count.steered.values(), count.unsteered, count.overlaps, count.ties))]
        for task, count in counts.items()
    ]
    return ["steered by", "rows", *names, "none", "several gates accept", "of these ties"], rows


def _steered(harm: Harm) -> list[float]:
    return [] if harm.n_steered is None else [harm.n_steered / harm.n_queries]


def _cells(value: Difference | None) -> list[str]:
    if value is None:
        return ["", ""]
    return [value.percent(), "<0.001" if value.p < 0.001 else f"{value.p:.3f}"]
