"""What a calibration measured, and what it chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atv_eval.gate_refit import GateRefit
from atv_eval.markdown import table
from atv_eval.metrics import Metric
from atv_eval.steering_search import SteeringResult
from atv_local.generator import Bundle


@dataclass(frozen=True)
class CalibrationResult:
    """What was measured, and whether a bundle was written.

    Args:
        points: one for each steering measured, in order.
        best: the point chosen; None if all do more harm than the budget allows.
        bundle: the calibrated bundle; None if none was written.
        metric: that points are scored by; None if the tasks have different ones.
        gate: the gate's new thresholds; None if they stay, or the bundle has none.
    """

    points: Sequence[SteeringResult]
    best: SteeringResult | None
    bundle: Bundle | None = None
    metric: Metric | None = None
    gate: GateRefit | None = None

    @property
    def cost(self) -> float:
        """What the budget costs: the points of 100 that the chosen setting answers worse than the best of all."""
        return 0.0 if self.best is None else cost_of(self.best, self.points)

    def as_markdown(self) -> str:
        """A table of what the gate steers, and one by strength and layers, in which the chosen point is marked."""
        parts = [] if self.gate is None else [self.gate.as_markdown()]
        if self.points:
            parts.append(self._points_table())
        return "\n".join(parts)

    def _points_table(self) -> str:
        rows = [
            [
                f"{point.steering.strength:g}{' (chosen)' if point is self.best else ''}",
                "-".join(map(str, point.steering.layers)) if point.steering.layers else "all",
                point.score.percent(),
                f"{point.harm.kl:.3f}",
                f"{100 * point.harm.agreement:.1f}",
                f"{100 * point.harm.same:.1f}",
            ]
            for point in self.points
        ]
        harm = ["KL, nats per token", "same token, %", "same answer, %"]
        score = self.metric.heading if self.metric else "main metric"
        return table(["strength", "layers", f"{score}, %", *harm], rows)


def cost_of(chosen: SteeringResult, points: Sequence[SteeringResult]) -> float:
    """How much worse a setting answers than the best of all, in points of 100."""
    return 100 * (max(point.score.value for point in points) - chosen.score.value)
