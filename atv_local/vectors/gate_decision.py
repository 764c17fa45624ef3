"""Whether a query belongs to the tasks of a bundle: how well it fits them, and how well it has to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from atv_local.data import as_number
from atv_local.errors import UsageError
from atv_local.text import shown

GATES: dict[str, float] = {"auto": 0.5, "off": 0.0}
"""Scores by name. A score of 0.5 is where the threshold of a bundle lies; with 0 every query is steered."""

GateChoice = float | Literal["auto", "off"]
"""The score that a query needs to be steered, or its name."""

_UNKNOWN = "`gate` {} is not auto, off or a number from 0 to 1"


def parse_gate(text: str) -> float:
    """The score of a gate from a text such as `auto`, `off` or `0.8`.

    Raises:
        UsageError: any other text.
    """
    try:
        number = float(text)
    except ValueError:
        return gate_score(text)
    return gate_score(number)


def gate_score(gate: GateChoice | str) -> float:
    """The score that a gate asks for.

    Raises:
        UsageError: another name, or a number that is not from 0 to 1.
    """
    if isinstance(gate, str):
        if gate not in GATES:
            raise UsageError(_UNKNOWN.format(shown(gate)))
        return GATES[gate]
    return as_number("gate", gate, 0, 1, note="0.5 is the threshold of the bundle, 0 steers every query")


@dataclass(frozen=True)
class GateDecision:
    """How well a query fits the tasks of a bundle, and whether it is steered for that.

    Attributes:
        task: the one that it fits best.
        score: how well, from 0 to 1. At 0.5 lies the threshold of the bundle, which nearly all of its validation rows
            pass.
        threshold: the score that it needs.
        bundle: the id of the bundle, where there are several to choose from.
    """

    task: str
    score: float
    threshold: float
    bundle: str | None = None

    @property
    def steered(self) -> bool:
        """Whether its vector is applied. If not, the answer is the base model's."""
        return self.score >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        """The decision as records have it; the score is rounded to 4 places."""
        fields = asdict(self) | {"score": round(self.score, 4), "steered": self.steered}
        return {name: value for name, value in fields.items() if value is not None}
