"""How many rows of each task the gate of a bundle lets through."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atv_eval.answer_records import EvalRecord


@dataclass(frozen=True)
class GateCount:
    """The rows of a task that were answered with steering, and those of them that the gate let through.

    The base model answers the others.
    """

    rows: int
    steered: int

    def percent(self) -> str:
        """The share that is steered, such as `97.5`."""
        return f"{100 * self.steered / self.rows:.1f}"


def count_gated(records: Iterable[EvalRecord]) -> dict[str, GateCount]:
    """By task; empty for a bundle without a gate."""
    counts: dict[str, GateCount] = {}
    for record in records:
        if record.gate is not None:
            before = counts.get(record.task, GateCount(0, 0))
            counts[record.task] = GateCount(before.rows + 1, before.steered + bool(record.gate["steered"]))
    return counts
