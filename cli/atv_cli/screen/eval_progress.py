"""The progress of `atv-local eval`: a live table of accuracies above the bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from atv_cli.screen.progress import ProgressView
from atv_local.text import one_line

if TYPE_CHECKING:
    from atv_eval import EvalPlan, EvalRecord


class EvalProgress(ProgressView):
    """A context manager; `show` takes each record as it comes."""

    def __init__(self, plan: EvalPlan) -> None:
        self._plan = plan
        self._right: Counter[tuple[str, str]] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        super().__init__("answers", plan.n_answers, MofNCompleteColumn(), TimeRemainingColumn())

    def show(self, record: EvalRecord) -> None:
        """Count a record."""
        place = record.task, record.method
        self._seen[place] += 1
        self._right[place] += record.said == record.output
        seen = self._seen.total()
        accuracy = f"{100 * self._right.total() / seen:.1f} % right"
        self.update(f"{seen} of {self._plan.n_answers} answers, {accuracy}", completed=seen, text=accuracy)

    def above(self) -> Iterator[Table]:
        """Accuracy and number of answers by task and method."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("task")
        for method in self._plan.methods:
            table.add_column(method, justify="right")
        for task in self._plan.tasks:
            places = [(task.name, method) for method in self._plan.methods]
            table.add_row(Text(one_line(task.name)), *(self._cell(place) for place in places))
        yield table

    def _cell(self, place: tuple[str, str]) -> str:
        seen = self._seen[place]
        return f"{100 * self._right[place] / seen:.1f} ({seen})" if seen else ""
