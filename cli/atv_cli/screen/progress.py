"""Progress on stderr: a bar on a terminal, one line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from atv_local.text import one_line

_LINE_SECONDS = 60.0


class ProgressView:
    """A context manager with a bar and lines of text above it.

    Args:
        description: what is being done, before the bar.
        total: steps to do, None if that is unknown.
        counts: columns after the bar, such as the percentage.
        quiet: print nothing.
    """

    def __init__(self, description: str, total: int | None, *counts: ProgressColumn, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=quiet)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *counts,
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._bar = _Bar(
            self.above, *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task = self._bar.add_task(description, total=total, text="")
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print one line; characters that a terminal would act on are replaced."""
        self._console.print(one_line(text), soft_wrap=True, markup=False)

    def update(
        self, line: str, *, completed: int, total: int | None = None, description: str | None = None, text: str = ""
    ) -> None:
        """Move the bar to `completed`; where there is none, print `line` if the last one is a minute old."""
        self._bar.update(self._task, completed=completed, total=total, description=description, text=text)
        if self._bar.disable and time.monotonic() - self._printed >= _LINE_SECONDS:
            self._printed = time.monotonic()
            self.say(line)

    def above(self) -> Iterable[RenderableType]:
        """What stands above the bar on a terminal."""
        return ()


class _Bar(Progress):
    def __init__(
        self, above: Callable[[], Iterable[RenderableType]], *columns: ProgressColumn, **settings: Any
    ) -> None:
        self._above = above
        super().__init__(*columns, **settings)  # which renders once

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from self._above()
        yield from super().get_renderables()
