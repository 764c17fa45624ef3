"""How one answer is steered, and a context in which it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from atv_local.answer import Engine
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import Target
from atv_local.vectors import OFF, GateDecision, Steering
from atv_serve.openai import AppliedControlVector, SteeringResponse
from atv_serve.work.model_names import AUTO


@dataclass(frozen=True)
class AppliedSteering:
    """How one answer is steered: by which bundle (None: by control vectors alone, or not at all; AUTO: by one that is
    not chosen yet), how, by other words than the request's, what is read before the user's words, and whether by
    the static vector of the bundle."""

    bundle: str | None = None
    bundle_id: str | None = None
    steering: Steering = OFF
    layers: tuple[int, int] = (1, 1)
    query: str | None = None
    task: str | None = None
    instruction: str | None = None
    static: bool = False
    told_by: str | None = None
    """The bundle whose task is named, also where it does not steer."""

    def as_response(self) -> SteeringResponse | Literal[False]:
        """The steering as a response reports it; False for the base model."""
        if self.steering.off:
            return False
        said = {"query": self.query, "instruction": self.instruction}
        more: dict[str, Any] = {name: text for name, text in said.items() if text is not None}
        if self.static:
            more["static"] = True
        if vectors := self.steering.control_vectors:
            more["control_vectors"] = [AppliedControlVector(**vector.as_dict()) for vector in vectors]
        return SteeringResponse(
            bundle=self.bundle,
            bundle_id=self.bundle_id,
            strength=self.steering.strength,
            layers=self.layers,
            positions=self.steering.positions,
            **more,
        )


class Context:
    """A context of the target, and an engine in it for each bundle, and for all together. For one thread.

    Attributes:
        unrouted: why several bundles cannot be used together; empty if they can, and for fewer.
    """

    def __init__(
        self, target: Target, generators: Mapping[str, Generator], template_variables: Mapping[str, Any] | None = None
    ) -> None:
        self.target = target
        self.unrouted = ""
        self._names = {generator.bundle.id: name for name, generator in generators.items()}
        self._engines: dict[str | None, Engine] = {
            name: Engine(target, made, template_variables=template_variables) for name, made in generators.items()
        }
        self._engines[None] = Engine(target, template_variables=template_variables)
        if len(generators) > 1:
            try:
                self._engines[AUTO] = Engine(target, [*generators.values()], template_variables=template_variables)
            except UsageError as error:
                self.unrouted = str(error)

    def engine(self, applied: AppliedSteering) -> Engine:
        """The engine that steers so."""
        return self._engines[applied.bundle]

    def decided(self, applied: AppliedSteering, gate: GateDecision | None) -> AppliedSteering:
        """The steering of an answer to a query with this decision: of several bundles, by the one that it goes to."""
        engine, vectors = self.engine(applied), applied.steering.control_vectors
        if applied.steering.off:
            return applied
        closed = gate is not None and not gate.steered
        if closed and not vectors:
            return AppliedSteering()
        if not closed and len(engine.generators) < 2:
            return applied
        generator = None if closed else engine.chosen_generator(gate)
        return self.chosen(applied, generator, engine.applied_steering(gate, applied.steering))

    def chosen(self, applied: AppliedSteering, generator: Generator | None, steering: Steering) -> AppliedSteering:
        """The same with the generator that was chosen, None for control vectors alone, and as that steers."""
        bundle_id = generator.bundle.id if generator else None
        name = self._names[bundle_id] if bundle_id else None
        layers = steering.range(self.target.n_rows)
        return replace(applied, bundle=name, bundle_id=bundle_id, steering=steering, layers=layers)
