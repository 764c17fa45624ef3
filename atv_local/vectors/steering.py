"""How a task vector is applied: strength, layers, positions, and the control vectors added to it.

Runtime (`atv_local.answer`, `atv_local.batch`) and training (`atv_train.frozen_target`) read the same two properties of
`Positions`, so a word means the same on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from atv_local.data import as_integer, as_number, is_iterable
from atv_local.errors import UsageError
from atv_local.text import shown
from atv_local.vectors.gate_decision import GATES, GateChoice, gate_score
from atv_local.vectors.scaled_vector import MAX_STRENGTH, ScaledVector

if TYPE_CHECKING:
    from atv_local.vectors.task_vector import TaskVector


class Positions(StrEnum):
    """Which tokens get the vector added to their hidden state.

    `last` is the rule of the ATV paper (arXiv 2506.03426), `all` that of its first released code. With `all`, a vector
    that has a prompt vector gives that to the prompt's tokens before the last one.
    """

    ALL = "all"
    LAST = "last"
    DECODE = "decode"

    @property
    def prefix(self) -> bool:
        """Whether prompt tokens before the last one are steered. If not, their KV is the base model's."""
        return self is Positions.ALL

    @property
    def generated(self) -> bool:
        """Whether generated tokens are steered. The last prompt token always is."""
        return self is not Positions.LAST


@dataclass(frozen=True)
class Steering:
    """How a task vector is applied to a target.

    Args:
        strength: factor on the vector; 0 is the base model, 1 is as trained.
        layers: first and last layer to steer, counted from 1 as in llama.cpp; None is all. A text such as `8-20` is
            read as well.
        positions: which tokens to steer, a `Positions` or its name.
        control_vectors: added to the vector of the query; None are those of the engine. `Engine.with_control_vectors`
            sets them.
        gate: the score from 0 to 1 that a query needs to be steered by the vector of a bundle that has a gate. `auto`,
            which is 0.5, is the threshold of the bundle; `off`, which is 0, steers every query.

    Raises:
        UsageError: a strength beyond 1000, no range of layers, an unknown name of positions, something else than
            `ScaledVector`s, or a gate that is not from 0 to 1.
    """

    strength: float = 1.0
    layers: tuple[int, int] | None = None
    positions: Positions = Positions.DECODE
    control_vectors: tuple[ScaledVector, ...] | None = None
    gate: float = GATES["auto"]

    def __init__(
        self,
        strength: float = 1.0,
        layers: tuple[int, int] | str | None = None,
        positions: Positions | str = Positions.DECODE,
        control_vectors: Iterable[ScaledVector] | None = None,
        gate: GateChoice = "auto",
    ) -> None:
        checked_layers = None if layers is None else layer_range(layers)
        if not isinstance(positions, str) or positions not in list(Positions):
            raise UsageError(f"`positions` {shown(positions)} is not one of {', '.join(Positions)}")
        note = "1 is as trained, 0 is the base model"
        object.__setattr__(self, "strength", as_number("strength", strength, -MAX_STRENGTH, MAX_STRENGTH, note=note))
        object.__setattr__(self, "layers", checked_layers)
        object.__setattr__(self, "positions", Positions(positions))
        object.__setattr__(self, "control_vectors", _checked_vectors(control_vectors))
        object.__setattr__(self, "gate", gate_score(gate))

    def __repr__(self) -> str:
        vectors = f", control_vectors={[*map(str, self.control_vectors)]}" if self.control_vectors else ""
        positions = f"positions={self.positions.value!r}"
        gate = "" if self.gate == GATES["auto"] else f", gate={self.gate:g}"
        return f"Steering(strength={self.strength:g}, layers={self.layers}, {positions}{vectors}{gate})"

    @property
    def off(self) -> bool:
        """Whether the base model answers, unchanged."""
        return self.strength == 0

    def apply(self, vector: TaskVector) -> TaskVector:
        """The values for llama.cpp to add: scaled by the strength, zero outside the layers.

        Raises:
            UsageError: a layer the vector does not have.
        """
        return (self.strength * vector).only(*self.range(vector.n_rows))

    def range(self, n_rows: int) -> tuple[int, int]:
        """First and last layer it steers in a target with `n_rows` steerable layers.

        Raises:
            UsageError: a layer the target does not have.
        """
        return layer_range(self.layers or (1, n_rows), n_rows)


def _checked_vectors(given: Iterable[ScaledVector] | None) -> tuple[ScaledVector, ...] | None:
    if given is None:
        return None
    vectors: tuple[Any, ...] = tuple(given) if is_iterable(given) and not isinstance(given, str) else (given,)
    for vector in vectors:
        if not isinstance(vector, ScaledVector):
            raise UsageError(
                f"`control_vectors` has {shown(vector)}, which is not a ScaledVector; `Engine.with_control_vectors` "
                "takes files too"
            )
    return vectors


OFF = Steering(strength=0.0)
"""The base model, unchanged."""


def parse_layers(text: str) -> tuple[int, int]:
    """A range of layers from a text such as `8-20` or `8`.

    Raises:
        UsageError: any other text.
    """
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    if match is None:
        raise UsageError(f"`layers` {text!r} is not A-B, such as 8-20")
    return int(match[1]), int(match[2] or match[1])


def layer_range(layers: Any, n_rows: int | None = None) -> tuple[int, int]:
    """A first and a last layer, counted from 1.

    Args:
        layers: a pair of integers, or a text such as `8-20`.
        n_rows: how many there are; None does not look at this.

    Raises:
        UsageError: anything else, or a layer that does not exist.
    """
    if isinstance(layers, str):
        layers = parse_layers(layers)
    try:
        one, other = layers
    except (TypeError, ValueError) as error:
        raise UsageError(f"`layers` {layers!r} is not a pair of numbers, such as (8, 20)") from error
    note = "" if n_rows is None else f"the steerable layers are 1 to {n_rows}"
    first, last = as_integer("layers", one, 1, note=note), as_integer("layers", other, 1, note=note)
    if first > last:
        raise UsageError(f"`layers` {first}-{last} is not a range A-B with 1 <= A <= B{note and '; '}{note}")
    if n_rows is not None and last > n_rows:
        raise UsageError(f"`layers` {first if first == last else f'{first}-{last}'}: {note}")
    return first, last
