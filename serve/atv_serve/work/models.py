"""What one server has: a target, generators by name, and how a request's words choose among them.

Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from atv_local.answer import OFF, Engine
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import LastUserMessage, Target
from atv_local.vectors import Positions, Steering

BASE = "base"
"""The name of the unsteered target among the models."""


class UnknownModelError(UsageError):
    """A model that this server does not have."""


@dataclass(frozen=True)
class AppliedSteering:
    """How one answer is steered: by which generator (None: not at all), how, and by other words than the request's."""

    generator: str | None = None
    bundle: str = ""
    steering: Steering = OFF
    layers: tuple[int, int] = (1, 1)
    query: str | None = None

    def as_json(self) -> dict[str, Any] | bool:
        """As an answer says it; False for the base model's."""
        if self.generator is None:
            return False
        said: dict[str, Any] = {
            "generator": self.generator,
            "bundle": self.bundle,
            "strength": self.steering.strength,
            "layers": list(self.layers),
            "positions": str(self.steering.positions),
        }
        return said if self.query is None else said | {"query": self.query}


class Context:
    """A context of the target, and an engine in it for each generator. For one thread."""

    def __init__(self, target: Target, generators: Mapping[str, Generator]) -> None:
        self.target = target
        self._engines: dict[str | None, Engine] = {name: Engine(target, made) for name, made in generators.items()}
        self._engines[None] = Engine(target)

    def engine(self, applied: AppliedSteering) -> Engine:
        """The engine that steers so."""
        return self._engines[applied.generator]


class ServedModels:
    """The target as the server describes it, and its generators, which all contexts share.

    Args:
        target: any context of it.
        generators: the first one steers unless a request says otherwise; without any the base model answers.
    """

    def __init__(self, target: Target, generators: Mapping[str, Generator]) -> None:
        self.generators = dict(generators)
        self.name = target.spec.name
        self.vocabulary, self.n_ctx, self.n_rows = target.vocabulary, target.n_ctx, target.n_rows
        self.n_embd = target.n_embd
        self.prompts = target.prompts
        self.queries = LastUserMessage(self.prompts)
        self.default = next(iter(self.generators), BASE)
        paths = [target.model.path, *(generator.bundle.path for generator in self.generators.values())]
        self._paths = sorted({path.absolute() for path in paths} | {path.resolve() for path in paths}, reverse=True)

    @property
    def models(self) -> dict[str, Generator | None]:
        """Each generator steering the target is a model, and so is the target alone."""
        return {**self.generators, BASE: None}

    def applied(
        self,
        model: str | None,
        *,
        off: bool = False,
        generator: str | None = None,
        strength: float | None = None,
        layers: tuple[int, int] | None = None,
        positions: Positions | None = None,
        query: str | None = None,
    ) -> AppliedSteering:
        """What a request for a model asks for; what it leaves open is as the bundle says.

        Raises:
            UnknownModelError: no such model.
            UsageError: no such generator, a strength or layers that are not there, or nothing to steer by.
        """
        model = self.default if model is None or (model == self.name and model not in self.models) else model
        if model not in self.models:
            raise UnknownModelError(f"there is no model {model!r}; here are {', '.join(self.models)}")
        asked = {"strength": strength, "layers": layers, "positions": positions}
        changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        name = generator or model
        if name != BASE and name not in self.generators:
            raise UsageError(f"there is no generator {name!r}; here are {', '.join(self.generators) or 'none'}")
        if off or name == BASE:
            if changes and not off:
                raise UsageError(f"the model {BASE!r} has no generator to steer by; name one of the others")
            return AppliedSteering()
        bundle = self.generators[name].bundle
        steering = replace(bundle.manifest.steering, **changes)
        span = steering.range(self.n_rows)
        return AppliedSteering() if steering.off else AppliedSteering(name, bundle.id, steering, span, query)

    def without_paths(self, text: str) -> str:
        """A message with names of files for where they lie, which is nobody's business."""
        for path in self._paths:  # longer ones before those that they begin with
            text = text.replace(str(path), path.name)
        return text
