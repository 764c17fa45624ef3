"""The progress of `atv-local batch`: rows answered, rows skipped and why, and the speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import TaskProgressColumn

from atv_cli.screen.progress import ProgressView
from atv_local.generator import GENERATOR_READ
from atv_local.text import counted

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
        self._partly_read = 0
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
            self._partly_read += GENERATOR_READ in result.record
        text = f"{self.counts}, {self.speed}"
        self.update(text, completed=result.request.end, text=text)

    def say_end(self) -> None:
        """Say what was done, and how many queries the generator did not read whole."""
        self.say(f"{self.counts}, {self.speed}")
        if self._partly_read:
            self.say(
                f"the generator did not read all of {counted(self._partly_read, 'query', 'queries')}: too long for it, "
                f"or with parts that it does not know; {GENERATOR_READ!r} in the output says how much it read"
            )

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
