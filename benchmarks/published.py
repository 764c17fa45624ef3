"""What is published beside what was measured again: which figures are within the published intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from atv_eval import table
from benchmarks.json_lines import Record, json_lines

_CELL = re.compile(r"(-?\d+(?:\.\d+)?) \[(-?\d+(?:\.\d+)?), (-?\d+(?:\.\d+)?)\]")
_SLACK = 0.05
"""Of a ratio of times, beyond its quartiles: the middle of one run is not that of another."""


@dataclass(frozen=True)
class Figure:
    """One published figure with its interval, or the quartiles of a ratio, and what was found again."""

    name: str
    value: float
    low: float
    high: float
    again: float

    @property
    def found(self) -> str:
        """How it was found again."""
        if self.again == self.value:
            return "the same"
        return "within" if self.low <= self.again <= self.high else "outside"

    @property
    def cells(self) -> list[str]:
        """Of a table."""
        return [
            self.name,
            f"{self.value:g} [{self.low:g}, {self.high:g}]",
            f"{self.again:g}",
            self.found,
        ]


def compared(measured: Path, published: Path) -> str:
    """A table of all figures that both folders have. Greedy answers to the same rows by the same bundle are the same on
    the same kind of processor; on another one a few differ, which the intervals allow for."""
    found = list(figures(measured, published))
    if not found:
        return "Nothing to compare."
    rows = [figure.cells for figure in found]
    counts = Counter(figure.found for figure in found)
    return f"""{table(["", "published", "again", ""], rows)}

Of {len(found)} figures {counts["the same"]} are the same, {counts["within"]} within their intervals,
{counts["outside"]} outside."""


def figures(measured: Path, published: Path) -> Iterator[Figure]:
    """Of tables that `eval` printed, and ratios of times."""
    for file in sorted(measured.glob("eval*.md")):
        if (published / file.name).exists():
            again = intervals(file.read_text())
            for name, (value, low, high) in intervals((published / file.name).read_text()).items():
                if name in again:
                    yield Figure(f"{file.stem}: {name}", value, low, high, again[name][0])
    for name in ("latency.jsonl", "structured.jsonl"):
        ours, theirs = (
            [dict(ratios(one)) for one in json_lines(folder / name)[-1:]] for folder in (measured, published)
        )
        for what in theirs[0] if ours and theirs else ():
            value, low, high = theirs[0][what]
            reach = round(low * (1 - _SLACK), 3), round(high * (1 + _SLACK), 3)
            yield Figure(f"{Path(name).stem}: {what}", value, *reach, ours[0][what][0])


def intervals(text: str) -> dict[str, tuple[float, float, float]]:
    """The cells of the first table that have an interval, by row and column."""
    found = {}
    for (row, column), cell in first_table(text).items():
        if match := _CELL.fullmatch(cell):
            value, low, high = map(float, match.groups())
            found[f"{row}, {column.removesuffix(', %')}"] = value, low, high
    return found


def first_table(text: str) -> dict[tuple[str, str], str]:
    """The cells of the first Markdown table, by the first cell of the row and the column."""
    lines = takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: line[:1] != "|", text.splitlines()))
    head, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
    return {(row[0], column): cell for row in rows for column, cell in zip(head, row, strict=True)}


def ratios(record: Record) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Everything in a record that is a median with quartiles and has no unit."""
    for part in ("first_token", "decoding", "times_free"):
        for name, spread in record.get(part, {}).items():
            yield name, (spread["median"], spread["low"], spread["high"])
