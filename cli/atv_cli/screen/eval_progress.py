"""The progress of `atv-local eval`: a live table of scores above the bar."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from atv_cli.screen.progress import ProgressView
from atv_local.text import one_line

if TYPE_CHECKING:
    from atv_eval import EvalPlan, EvalRecord, Metric


class EvalProgress(ProgressView):
    """A context manager; `begin` takes the plan, then `show` each record as it comes."""

    def __init__(self) -> None:
        self._plan: EvalPlan | None = None
        self._metrics: Mapping[str, Metric] = {}
        self._sums: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._seen: Counter[tuple[str, str]] = Counter()
        super().__init__("answers", None, MofNCompleteColumn(), TimeRemainingColumn())

    def begin(self, plan: EvalPlan) -> None:
        """Show the plan's tasks and methods."""
        self._plan = plan
        self._metrics = {task.name: task.main for task in plan.tasks}
        self.update(f"0 of {plan.n_answers} answers", completed=0, total=plan.n_answers)

    def show(self, record: EvalRecord) -> None:
        """Count a record."""
        place = record.task, record.method
        self._seen[place] += 1
        self._sums[place] += record.scores[self._metrics[record.task]]
        seen = self._seen.total()
        total = self._plan.n_answers if self._plan else None
        self.update(f"{seen} of {total} answers", completed=seen)

    def above(self) -> Iterator[Table]:
        """The main metric in percent so far, by task and method."""
        if self._plan is None:
            return
        table = Table(box=None, padding=(0, 1, 0, 0))  # eight methods fit into 80 columns
        table.add_column("main metric, %")
        for method in self._plan.methods:
            table.add_column(method, justify="right")
        for task in self._plan.tasks:
            places = [(task.name, method) for method in self._plan.methods]
            table.add_row(Text(one_line(task.name)), *(self._cell(place) for place in places))
        yield table

    def _cell(self, place: tuple[str, str]) -> str:
        seen = self._seen[place]
        return f"{100 * self._sums[place] / seen:.1f}" if seen else ""
