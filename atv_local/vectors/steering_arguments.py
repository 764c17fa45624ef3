"""Types of steering arguments for `checked_arguments`. Apart from `steering`, which must not import pydantic."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, Strict

from atv_local.data import Expected, WholeNumber, plain
from atv_local.vectors.gate_decision import gate_score
from atv_local.vectors.scaled_vector import MAX_STRENGTH
from atv_local.vectors.steering import Positions, layer_range


def _checked_range(layers: tuple[int, int] | str) -> tuple[int, int]:
    return layer_range(layers)


StrengthNumber = Annotated[
    float,
    Strict(),
    Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH),
    plain,
    Expected(f"a number from {-MAX_STRENGTH:g} to {MAX_STRENGTH:g}; 1 is as trained, 0 is the base model"),
]
GateValue = Annotated[
    Annotated[float, Strict()] | str,
    plain,
    AfterValidator(gate_score),
    Expected("auto, off or a number from 0 to 1"),
]
"""It becomes a number."""
PositionsName = Annotated[Positions | str, AfterValidator(Positions), Expected(f"one of {', '.join(Positions)}")]
"""It becomes a `Positions`."""
LayerRange = Annotated[
    tuple[WholeNumber, WholeNumber] | str,
    plain,
    AfterValidator(_checked_range),
    Expected("a range of layers, such as (8, 20) or '8-20'"),
]
"""The first and the last layer, given as a pair or as text; validated, it is a pair."""
