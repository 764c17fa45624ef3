"""The progress of `atv-local batch`: rows answered, rows skipped and why, and the speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import TaskProgressColumn

from atv_cli.screen.progress import ProgressView

if TYPE_CHECKING:
    from atv_local.batch import RowResult


class BatchProgress(ProgressView):
    """A context manager; `show` takes each result as it comes.

    Args:
        size: bytes of the input, None if that is unknown.
        answered: rows that an earlier run answered; `skipped` are those that it could not answer.
    """

    def __init__(self, size: int | None, answered: int, skipped: int) -> None:
        super().__init__("answering", size, TaskProgressColumn())
        self.answered, self.skipped = answered, skipped
        self._before, self._started = answered + skipped, time.monotonic()
        if answered:
            self.say(f"resuming after {self.counts}")

    def show(self, result: RowResult, problem: str = "") -> None:
        """Count one more row; `problem` is why it was skipped, if it was."""
        if result.record is None:
            self.skipped += 1
            self.say(problem)
        else:
            self.answered += 1
        text = f"{self.counts}, {self.speed}"
        self.update(text, completed=result.request.end, text=text)

    @property
    def counts(self) -> str:
        """How many rows have an answer, and how many do not."""
        rows = "row" if self.answered == 1 else "rows"
        return f"{self.answered} {rows} answered{f', {self.skipped} skipped' if self.skipped else ''}"

    @property
    def speed(self) -> str:
        """Rows per second of this process, including the time to load the models."""
        done = self.answered + self.skipped - self._before
        return f"{done / max(time.monotonic() - self._started, 1e-3):.1f} rows/s"
