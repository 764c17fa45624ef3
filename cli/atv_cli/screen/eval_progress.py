"""What `atv-local eval` shows while it measures: a live table on a terminal, a line a minute elsewhere; on stderr."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from atv_local.text import one_line

if TYPE_CHECKING:
    from atv_eval import EvalPlan, EvalRecord

_LINE_SECONDS = 60.0


class EvalProgress:
    """A context manager; `show` takes each record as it comes."""

    def __init__(self, plan: EvalPlan) -> None:
        self._plan = plan
        self._right: Counter[tuple[str, str]] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
        )
        self._task = self._bar.add_task("answers", total=plan.n_answers)
        self._live = Live(get_renderable=self._table, console=self._console, transient=True, refresh_per_second=4)
        self._printed = time.monotonic()

    def __enter__(self) -> EvalProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, record: EvalRecord) -> None:
        """Count a record."""
        place = record.task, record.method
        self._seen[place] += 1
        self._right[place] += record.said == record.output
        self._bar.advance(self._task)
        if not self._console.is_terminal and time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            right, seen = self._right.total(), self._seen.total()
            self.say(f"{seen} of {self._plan.n_answers} answers, {100 * right / seen:.1f} % right")

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(Text(one_line(text)), soft_wrap=True)

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("task")
        for method in self._plan.methods:
            table.add_column(method, justify="right")
        for task in self._plan.tasks:
            places = [(task.name, method) for method in self._plan.methods]
            table.add_row(Text(one_line(task.name)), *(self._cell(place) for place in places))
        return Group(table, self._bar)

    def _cell(self, place: tuple[str, str]) -> str:
        seen = self._seen[place]
        return f"{100 * self._right[place] / seen:.1f} ({seen})" if seen else ""
