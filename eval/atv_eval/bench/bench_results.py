"""Benchmark results as rows of plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atv_eval.bench.timing import ratios, spread


@dataclass
class BenchResults:
    """Rows of plain values, fit for JSON.

    Each row has its part, `what` it is of, a `size` (tokens or queries, or None), the median and quartiles `low` and
    `high`, and all samples in order; those of `medians` a unit too.
    """

    say: Callable[[str], None]
    ratios: list[dict[str, Any]] = field(default_factory=list)
    medians: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add something that a reader of the figures must know."""
        self.notes.append(text)
        self.say(text)

    def add(
        self,
        part: str,
        size: int | None,
        unit: str,
        samples: Mapping[str, Sequence[float]],
        pairs: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Samples by name, and the ratios of those that are to be compared."""
        for above, below in pairs:
            row = {"part": part, "what": f"{above} / {below}", "size": size}
            self.ratios.append(row | _figures(ratios(samples[above], samples[below])))
        for name, values in samples.items():
            self.medians.append({"part": part, "what": name, "size": size, "unit": unit} | _figures(values))


def _figures(samples: Sequence[float]) -> dict[str, Any]:
    figures = {name: round(value, 6) for name, value in spread(samples)._asdict().items()}
    return figures | {"samples": [round(value, 6) for value in samples]}
