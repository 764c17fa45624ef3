"""The target, generators and control vectors of a server, and how a request chooses among them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from atv_local.answer import Engine
from atv_local.errors import UsageError
from atv_local.generator import Bundle, Generator, Manifest
from atv_local.target import LastUserMessage, PromptFormat, Target
from atv_local.vectors import OFF, ControlVector, ScaledVector, Steering, trained_positions
from atv_serve.openai import AppliedControlVector, SteeringRequest, SteeringResponse

BASE = "base"
"""The name of the unsteered target among the models."""


_LONGEST_REASON = 400
"""Characters of what is wrong with a field, such as a schema, which may repeat parts of it."""


def check_bundle_ids(ids: Iterable[str]) -> None:
    """Raise UsageError if a bundle has the name of the base model."""
    if BASE in ids:
        raise UsageError(f"a bundle cannot be named {BASE!r}: that is the model without steering")


class UnknownModelError(UsageError):
    """A model that this server does not have."""


class FieldError(UsageError):
    """A field of a request that cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message[:_LONGEST_REASON])
        self.field = field


@dataclass(frozen=True)
class AppliedSteering:
    """How one answer is steered: by which bundle (None: by control vectors alone, or not at all), how, and by other
    words than the request's."""

    bundle: str | None = None
    bundle_id: str | None = None
    steering: Steering = OFF
    layers: tuple[int, int] = (1, 1)
    query: str | None = None

    def as_response(self) -> SteeringResponse | Literal[False]:
        """The steering as a response reports it; False for the base model."""
        if self.steering.off:
            return False
        more: dict[str, Any] = {} if self.query is None else {"query": self.query}
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
    """A context of the target, and an engine in it for each bundle. For one thread."""

    def __init__(
        self, target: Target, generators: Mapping[str, Generator], template_variables: Mapping[str, Any] | None = None
    ) -> None:
        self.target = target
        self._engines: dict[str | None, Engine] = {
            name: Engine(target, made, template_variables=template_variables) for name, made in generators.items()
        }
        self._engines[None] = Engine(target, template_variables=template_variables)

    def engine(self, applied: AppliedSteering) -> Engine:
        """The engine that steers so."""
        return self._engines[applied.bundle]


class ServedModels:
    """The target as the server describes it, and the generators of its bundles, which all contexts share.

    Args:
        target: any context of it.
        generators: the first one steers unless a request says otherwise; without any the base model answers.
        control_vectors: what requests can add, by name; made for the target.
        template_variables: values for variables of the chat template, before those of the bundles.
    """

    def __init__(
        self,
        target: Target,
        generators: Mapping[str, Generator],
        control_vectors: Mapping[str, ControlVector] | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.generators, self.control_vectors = dict(generators), dict(control_vectors or {})
        self.name = target.spec.name
        self.vocabulary, self.prompts = target.vocabulary, target.prompts
        self._template_variables = dict(template_variables or {})
        self._prompts = lru_cache(maxsize=32)(lambda values: self.prompts.with_variables(json.loads(values)))
        self.n_ctx, self.n_layer, self.n_rows = target.n_ctx, target.model.n_layer, target.n_rows
        self.last_user_message = LastUserMessage(self.prompts)
        self.names = (*self.generators, BASE)
        """Each generator steering the target is a model, and so is the target alone."""
        self.default = self.names[0]
        paths = [target.path, *(generator.bundle.path for generator in self.generators.values())]
        paths += [vector.path for vector in self.control_vectors.values() if vector.path is not None]
        self._paths = sorted({path.absolute() for path in paths} | {path.resolve() for path in paths}, reverse=True)

    def check(self, name: str) -> None:
        """Raise UnknownModelError for a name that no model has."""
        if name not in self.names:
            raise UnknownModelError(f"there is no model {name!r}; here are {', '.join(self.names)}")

    def labels(self, model: str | None, request: SteeringRequest | bool | None = None) -> tuple[str, ...]:
        """The labels that the bundle of a request was trained on, also where steering is off; of the base model none.

        Raises:
            UnknownModelError: no such model.
        """
        manifest = self.manifest(model, request)
        return manifest.labels if manifest else ()

    def manifest(self, model: str | None, request: SteeringRequest | bool | None = None) -> Manifest | None:
        """The manifest of that bundle, None for the base model; see `labels`."""
        bundle = self._bundle(model, request)
        return bundle.manifest if bundle else None

    def prompts_for(
        self, model: str | None, request: SteeringRequest | bool | None, variables: Mapping[str, Any] | None
    ) -> PromptFormat:
        """The chat template with the variables of a request, of the server, and of the bundle, also where it is off.

        Raises:
            UnknownModelError: no such model.
            FieldError: a variable that the template does not read.
        """
        try:
            self.prompts.check_variables(variables or ())
        except UsageError as error:
            raise FieldError("chat_template_kwargs", str(error)) from error
        bundle = self._bundle(model, request)
        trained = bundle.manifest.template_variables if bundle else {}
        return self._prompts(json.dumps({**trained, **self._template_variables, **(variables or {})}))

    def _bundle(self, model: str | None, request: SteeringRequest | bool | None) -> Bundle | None:
        name = self._chosen(model)
        if isinstance(request, SteeringRequest):
            name = request.bundle or name
        return self.generators[name].bundle if name in self.generators else None

    def _chosen(self, model: str | None) -> str:
        """The model of a request that names this one: the default for the name of the target, and for none."""
        named_target = model == self.name and model not in self.names
        name = self.default if not model or named_target else model
        self.check(name)
        return name

    def steering(self, model: str | None, request: SteeringRequest | bool | None = None) -> AppliedSteering:
        """What a request for a model asks for; what it leaves open is as the bundle says. The default model answers
        requests that name none, or the target.

        Raises:
            UnknownModelError: no such model.
            UsageError: no such bundle, a strength or layers that are not there, or nothing to steer by.
        """
        name = self._chosen(model)
        changes, query = _changes(request), None
        vectors: tuple[ScaledVector, ...] = ()
        if isinstance(request, SteeringRequest):
            name, query, vectors = request.bundle or name, request.query, self._vectors(request)
        if name != BASE and name not in self.generators:
            raise UsageError(f"there is no bundle {name!r}; here are {', '.join(self.generators) or 'none'}")
        if request is False or (name == BASE and not vectors):
            if changes:
                raise UsageError(f"the model {BASE!r} has no bundle to steer by; name one of the others")
            return AppliedSteering()
        bundle = None if name == BASE else self.generators[name].bundle
        default = Steering(positions=trained_positions(vectors)) if bundle is None else bundle.manifest.steering
        if vectors:  # the bundle's layers are not theirs
            default = replace(default, layers=None, control_vectors=vectors)
        steering = replace(default, **changes)
        layers = steering.range(self.n_rows)
        if steering.off:
            return AppliedSteering()
        if bundle is None:
            return AppliedSteering(None, None, steering, layers, query)
        return AppliedSteering(name, bundle.id, steering, layers, query)

    def _vectors(self, request: SteeringRequest) -> tuple[ScaledVector, ...]:
        """The control vectors that a request names."""
        for wanted in request.control_vectors or []:
            if wanted.name not in self.control_vectors:
                known = ", ".join(self.control_vectors) or "none"
                problem = f"there is no control vector {wanted.name!r}; here are {known}"
                raise FieldError("steering.control_vectors", problem)
        return tuple(
            ScaledVector(self.control_vectors[wanted.name], wanted.scale, wanted.name)
            for wanted in request.control_vectors or []
        )

    def without_paths(self, text: str) -> str:
        """A message with the names of files but not where they are, so that paths do not leak."""
        for path in self._paths:  # longer ones before those that they begin with
            text = text.replace(str(path), path.name)
        return text


def _changes(request: SteeringRequest | bool | None) -> dict[str, Any]:
    """What a request says of a bundle's own steering."""
    if not isinstance(request, SteeringRequest):
        return {}
    wanted: dict[str, Any] = {
        "strength": request.strength,
        "layers": None if request.layers is None else tuple(request.layers),
        "positions": request.positions,
        "gate": request.gate,
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    Steering(**changes)  # checks the order of the layers before the target's number of them
    return changes
