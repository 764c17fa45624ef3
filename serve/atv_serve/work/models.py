"""The target, generators and control vectors of a server, and how a request chooses among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from atv_local.answer import Asked, Router, ask
from atv_local.errors import UsageError
from atv_local.generator import Generator, Manifest
from atv_local.target import LastUserMessage, PromptFormat, Target
from atv_local.vectors import ControlVector, ScaledVector, Steering, trained_positions
from atv_serve.openai import SteeringRequest
from atv_serve.work.context import AppliedSteering
from atv_serve.work.model_names import AUTO, BASE

_LONGEST_REASON = 400
"""Characters of what is wrong with a field, such as a schema, which may repeat parts of it."""


class UnknownModelError(UsageError):
    """A model that this server does not have."""


class FieldError(UsageError):
    """A field of a request that cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message[:_LONGEST_REASON])
        self.field = field


class ServedModels:
    """The target as the server describes it, and the generators of its bundles, which all contexts share.

    Args:
        target: any context of it.
        generators: unless a request says otherwise, of several that can be used together each query has the one that it
            fits best, else the first one steers; without any the base model answers.
        control_vectors: what requests can add, by name; made for the target.
        template_variables: values for variables of the chat template, before those of the bundles.
        unrouted: why several generators cannot be used together; empty if they can.
    """

    def __init__(
        self,
        target: Target,
        generators: Mapping[str, Generator],
        control_vectors: Mapping[str, ControlVector] | None = None,
        template_variables: Mapping[str, Any] | None = None,
        unrouted: str = "",
    ) -> None:
        self.generators, self.control_vectors = dict(generators), dict(control_vectors or {})
        self.name = target.spec.name
        self.vocabulary, self.prompts = target.vocabulary, target.prompts
        self._template_variables = dict(template_variables or {})
        self._prompts = lru_cache(maxsize=32)(lambda values: self.prompts.with_variables(json.loads(values)))
        self.n_ctx, self.n_layer, self.n_rows = target.n_ctx, target.model.n_layer, target.n_rows
        self.last_user_message = LastUserMessage(self.prompts)
        self.unrouted = unrouted
        self.routed = len(self.generators) > 1 and not unrouted
        """Whether there is a model that chooses among the bundles."""
        self.names = (*([AUTO] if self.routed else []), *self.generators, BASE)
        """Each generator steering the target is a model, and so are all of them together, and the target alone."""
        self.bundle_names = {generator.bundle.id: name for name, generator in self.generators.items()}
        """The names of the bundles by their ids."""
        self.default = self.names[0]
        paths = [target.path, *(generator.bundle.path for generator in self.generators.values())]
        paths += [vector.path for vector in self.control_vectors.values() if vector.path is not None]
        self._paths = sorted({path.absolute() for path in paths} | {path.resolve() for path in paths}, reverse=True)

    def check(self, name: str) -> None:
        """Raise UnknownModelError for a name that no model has."""
        if name not in self.names:
            raise UnknownModelError(f"there is no model {name!r}; here are {', '.join(self.names)}")

    def labels(self, model: str | None, request: SteeringRequest | bool | None = None) -> tuple[str, ...]:
        """The labels that the bundles of a request were trained on, also where steering is off; of the base model none.

        Raises:
            UnknownModelError: no such model.
        """
        return tuple(dict.fromkeys(label for one in self.manifests(model, request) for label in one.labels))

    def instructions(self, model: str | None) -> dict[str, str]:
        """What is read before a query, by the names of tasks of the bundles of a model.

        Raises:
            UnknownModelError: no such model.
        """
        return {task: said for one in self.manifests(model) for task, said in one.instructions.items()}

    def manifests(self, model: str | None, request: SteeringRequest | bool | None = None) -> list[Manifest]:
        """The manifests of the bundles of a request, none for the base model; see `labels`."""
        name = self._chosen(model)
        if isinstance(request, SteeringRequest):
            name = request.bundle or name
        return [generator.bundle.manifest for generator in self._generators(name)]

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
        trained: dict[str, Any] = {}
        for manifest in self.manifests(model, request):
            trained |= manifest.template_variables
        return self._prompts(json.dumps({**trained, **self._template_variables, **(variables or {})}))

    def _generators(self, name: str) -> list[Generator]:
        """The generators of a model."""
        if name in self.generators:
            return [self.generators[name]]
        return [*self.generators.values()] if name == AUTO and self.routed else []

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
        changes, told, query = _changes(request), _told(request), None
        vectors: tuple[ScaledVector, ...] = ()
        if isinstance(request, SteeringRequest):
            name, query, vectors = request.bundle or name, request.query, self._vectors(request)
        if name != BASE and not self._generators(name):
            raise UsageError(f"there is no bundle {name!r}; here are {', '.join(self.names[:-1]) or 'none'}")
        if request is False or (name == BASE and not vectors):
            if changes:
                raise UsageError(f"the model {BASE!r} has no bundle to steer by; name one of the others")
            return AppliedSteering(**told)
        generators = self._generators(name)
        default = generators[0].steering if generators else Steering(positions=trained_positions(vectors))
        if vectors:  # the bundle's layers are not theirs
            default = replace(default, layers=None, control_vectors=vectors)
        steering = replace(default, **changes)
        layers = steering.range(self.n_rows)
        if steering.off:
            return AppliedSteering(**told, told_by=name if generators else None)
        bundle_id = generators[0].bundle.id if len(generators) == 1 else None
        return AppliedSteering(name if generators else None, bundle_id, steering, layers, query, **told)

    def asked(self, query: str, applied: AppliedSteering, choices: Sequence[str] = ()) -> Asked:
        """What is read for a query, in which the generator may run.

        Raises:
            FieldError: a task without an instruction.
        """
        generators = self._generators(applied.bundle or applied.told_by or BASE)
        try:
            return ask(
                query,
                Router(generators) if generators else None,
                applied.steering,
                task=applied.task,
                instruction=applied.instruction,
                choices=choices,
            )
        except UsageError as error:
            field = "task" if applied.task is not None else "instruction"
            raise FieldError(f"steering.{field}", str(error)) from error

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


def _told(request: SteeringRequest | bool | None) -> dict[str, Any]:
    """What a request says is asked."""
    if not isinstance(request, SteeringRequest):
        return {}
    return {name: text for name in ("task", "instruction") if (text := getattr(request, name)) is not None}


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
