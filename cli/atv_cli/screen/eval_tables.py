"""The results of `atv-local eval` on a terminal: a table for each task, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atv_eval import bundle_table, gate_table, harm_table
from atv_local.text import one_line

if TYPE_CHECKING:
    from atv_eval import EvalResult, MethodScore

_MAIN_WIDTH = len("100.0 [100.0, 100.0]")


def print_results(result: EvalResult) -> None:
    """A table for each task on stdout, one for their mean, what steering adds and harms, and one sentence last.

    Only main metrics have their interval here; the result's other forms have all.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    tables = []
    for task in dict.fromkeys(score.task for score in result.scores):
        tables.append(_task_table(task, [score for score in result.scores if score.task == task], result))
    if result.differences:
        table = _table("steered over", ["main metric, points", "p"])
        for method, differences in result.differences.items():
            main = differences["main"]
            table.add_row(result.method_name(method), main.percent(), "<0.001" if main.p < 0.001 else f"{main.p:.3f}")
        tables.append(table)
    if result.gate:
        tables.append(_text_table(*gate_table(result.gate)))
    if result.bundles:
        tables.append(_text_table(*bundle_table(result.bundles)))
    if result.harm:
        tables.append(_text_table(*harm_table(result.harm)))
    for table in tables:
        console.print(table, "")
    for note in result.notes:
        console.print(Text(note.replace("`", "")))
    if result.verdict:
        console.print(Text(result.verdict, style="bold"))


def _task_table(task: str, scores: Sequence[MethodScore], result: EvalResult) -> Table:
    metric = scores[0].metric
    others = [name for name in scores[0].scores if name is not metric]
    heads = [f"{metric.heading if metric else 'main metric'}, %", *(name.heading for name in others), "prompt tokens"]
    table = _table(
        f"{one_line(task)}, {scores[0].rows} rows", heads + ["first token, ms"] * bool(result.first_token_ms)
    )
    best = max(score.main.value for score in scores)
    for score in scores:
        main = Text(score.main.percent(), style="bold green" if score.main.value == best else "bold")
        cells = [f"{100 * score.scores[name].value:.1f}" for name in others]
        cells.append(f"{score.prompt_tokens:.0f}" if score.prompt_tokens else "")
        if result.first_token_ms:
            ms = result.first_token_ms.get(score.method)
            cells.append("" if ms is None else f"{ms:.0f}")
        table.add_row(score.method, main, *cells)
    return table


def _text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = _table(head[0], head[1:])
    for first, *numbers in rows:
        table.add_row(one_line(first), *numbers)
    return table


def _table(first: str, numbers: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, header_style="bold")
    for index, name in enumerate(numbers):
        table.add_column(name, justify="right", min_width=_MAIN_WIDTH if index == 0 else 6)
    return table
