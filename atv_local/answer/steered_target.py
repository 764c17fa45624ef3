"""What steers the answers of a target: a generator, control vectors, or a vector given with the query."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from atv_local.answer.queries import check_queries, check_query, check_settings
from atv_local.data import as_path, as_template_variables
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import PromptFormat, Target, TemplateWarning
from atv_local.vectors import (
    OFF,
    ControlVector,
    GateDecision,
    ScaledVector,
    Steering,
    TaskVector,
    VectorSources,
    mean_control_vector,
    read_control_vector,
    scaled_vectors,
    sum_control_vectors,
    trained_positions,
)

GivenVector = ControlVector | TaskVector | ArrayLike | str | Path
"""A vector in place of the query's own; a path is that of a control-vector GGUF."""


@dataclass(frozen=True)
class GatedVector:
    """What steers the answer to one query.

    Attributes:
        vector: None for the base model, where the gate is closed and there are no control vectors.
        gate: of the bundle, if that has one.
    """

    vector: TaskVector | None
    gate: GateDecision | None = None


class SteeredTarget:
    """A target and what makes the vectors that steer it. `Engine` answers queries with it.

    Args:
        target: what they steer.
        generator: reads each query and makes its vector.
        control_vectors: added to the vector of every query, or used alone, unless a steering has others.
        steering: used where no other is given; by default that of the bundle, or else of the control vectors.
        template_variables: values for variables of the chat template, before those that the bundle was trained with.

    Raises:
        ModelError: a chat template that cannot be used.
        BundleError: a generator made for another target.
        VectorError: a control vector made for another target.
        UsageError: something else than a `Target`, `Generator`, `Steering` or control vectors, a target that is closed,
            or layers that it does not have.
    """

    def __init__(
        self,
        target: Target,
        generator: Generator | None,
        control_vectors: VectorSources,
        steering: Steering | None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(target, Target):
            raise UsageError(f"`target` {target!r} is not a Target; load files with atv_local.load")
        target.check_open()
        if not isinstance(generator, Generator | None):
            raise UsageError(f"`generator` {generator!r} is not a Generator; load files with atv_local.load")
        self.target, self._generator = target, generator
        self._control_vectors = scaled_vectors(control_vectors)
        self._sum = lru_cache(maxsize=8)(lambda vectors: _checked_sum(vectors, target))
        self._sum(self.control_vectors)  # one that does not fit raises now
        if generator is not None:
            generator.bundle.check_target(target.spec)
        if steering is not None:
            check_settings(steering)
        self._steering = self._default_steering() if steering is None else steering
        self._has_own = steering is not None or generator is not None or bool(self.control_vectors)
        """Whether `steering` says how to steer, rather than that there is nothing to steer by."""
        if not self._steering.off:
            self._steering.range(target.n_rows)
        self._prompt_format = self._fitted_prompts(as_template_variables(template_variables))

    def _fitted_prompts(self, given: Mapping[str, Any]) -> PromptFormat:
        trained = {} if self.generator is None else self.generator.bundle.manifest.template_variables
        prompts = self.target.prompts
        prompts.check_variables(given)
        try:
            prompts.check_variables(trained)
        except UsageError as error:
            warnings.warn(f"the bundle was trained with another chat template: {error}", TemplateWarning, stacklevel=4)
        prompts = prompts.with_variables({**trained, **given})
        if prompts.thinks and "enable_thinking" not in {**trained, **given}:
            warnings.warn(
                "the chat template begins answers inside a thinking block; set its variable enable_thinking to false "
                "to close it",
                TemplateWarning,
                stacklevel=4,
            )
        return prompts

    def _default_steering(self) -> Steering:
        vectors = self.control_vectors
        if self.generator is None:
            return Steering(positions=trained_positions(vectors)) if vectors else OFF
        return replace(self.generator.steering, layers=None) if vectors else self.generator.steering

    @property
    def generator(self) -> Generator | None:
        """What makes the vectors of queries."""
        return self._generator

    @property
    def control_vectors(self) -> tuple[ScaledVector, ...]:
        """What is added to every vector, or steers alone, unless a steering has others."""
        return self._control_vectors

    @property
    def prompts(self) -> PromptFormat:
        """The target's chat template, with the variables that the bundle was trained with and those that were given."""
        return self._prompt_format

    @property
    def steering(self) -> Steering:
        """The default steering of answers."""
        return self._steering

    def check_open(self) -> None:
        """Raise UsageError for a target that is closed, and in a process that was forked after it was loaded."""
        self.target.check_open()

    def vector(self, query: str, *, steering: Steering | None = None) -> TaskVector:
        """The vector of a query, float32 [n_layer-1, n_embd], whether the gate lets it steer or not.

        Args:
            query: the user's words, as they would be answered.
            steering: its control vectors are part of the vector, its strength and layers are not; by default
                `self.steering`.

        Raises:
            UsageError: an empty query, one that is not Unicode text, or an engine that is closed or has nothing to
                steer by.
            VectorError: a control vector made for another target.
        """
        steering = replace(self.steering if steering is None else steering, gate=0.0)
        vector = self.gated_vector(query, steering=steering).vector
        assert vector is not None  # with an open gate something steers, or `gated_vector` raises
        return vector

    def gated_vector(self, query: str, *, steering: Steering | None = None) -> GatedVector:
        """What steers the answer to a query: its vector, if the gate lets it, and the control vectors.

        Args:
            query: the user's words, as they would be answered.
            steering: its gate and its control vectors are used, its strength and layers are not; by default
                `self.steering`.

        Raises:
            UsageError, VectorError: as `vector`.
        """
        self.check_open()
        check_query(query)
        steering = self.steering if steering is None else steering
        check_settings(steering)
        self._check_vectors(steering)
        vectors = self._applied_control_vectors(steering)
        if self.generator is None:
            return GatedVector(self._sum(vectors))
        vector, score = self.generator.scored(query)
        gate = GateDecision(score.task, score.score, steering.gate) if score else None
        if gate and not gate.steered:
            return GatedVector(self._sum(vectors) if vectors else None, gate)
        if vectors:
            layers = self.generator.steering.layers
            vector = (vector.only(*layers) if layers else vector) + self._sum(vectors)
        return GatedVector(vector, gate)

    def with_control_vectors(self, control_vectors: VectorSources, steering: Steering | None = None) -> Steering:
        """A steering with these control vectors, for one answer or for many.

        Args:
            control_vectors: as `load` takes them, in place of those of the engine; empty for none.
            steering: what else it says; by default `self.steering`. Layers that are the bundle's hold for the
                generator's vector alone, beside control vectors. Where nothing steered before, these steer all layers,
                at the positions that they were made for. Where nothing is left to steer by, the steering is off.

        Raises:
            NotFoundError, VectorError, UsageError: as `load`.
        """
        steering = self.steering if steering is None else steering
        check_settings(steering)
        vectors = scaled_vectors(control_vectors)
        self._sum(vectors)
        if self.generator is None:
            if not vectors:
                steering = OFF
            elif steering.off and not self._applied_control_vectors(steering):
                steering = Steering(positions=trained_positions(vectors))
        else:
            own = self.generator.steering.layers
            if vectors and steering.layers == own:
                steering = replace(steering, layers=None)
            elif not vectors and steering.layers is None:
                steering = replace(steering, layers=own)
        return replace(steering, control_vectors=vectors)

    def control_vectors_of(self, steering: Steering) -> tuple[ScaledVector, ...]:
        """The control vectors that a steering applies: its own, or those of the engine; none where it is off."""
        return () if steering.off else self._applied_control_vectors(steering)

    def _applied_control_vectors(self, steering: Steering) -> tuple[ScaledVector, ...]:
        return self.control_vectors if steering.control_vectors is None else steering.control_vectors

    def control_vector(self, queries: Iterable[str], *, steering: Steering | None = None) -> ControlVector:
        """The mean vector of queries as a control vector: `save` it, and other programs can steer with it.

        Args:
            queries: at least one.
            steering: how it is applied: strength and layers change the values, positions are recorded for `load`. By
                default `self.steering`.

        Raises:
            UsageError: no queries, one that `vector` refuses, or layers that the target does not have.
        """
        steering = self.checked_steering(steering)
        check_queries(queries)
        queries = list(queries)
        for query in queries:
            check_query(query)
        if self.generator is not None and not self._applied_control_vectors(steering):
            return self.generator.control_vector(queries, steering=steering)  # which names its bundle
        return mean_control_vector(
            lambda query: self.vector(query, steering=steering), queries, steering, self.target.spec
        )

    def checked_steering(self, steering: Steering | None = None) -> Steering:
        """The steering of answers with vectors of this engine.

        Args:
            steering: by default `self.steering`.

        Raises:
            UsageError: something else, layers that the target does not have, or an engine that is closed or has nothing
                to steer by.
        """
        self.check_open()
        steering = self._applied(steering)
        if not steering.off:
            self._check_vectors(steering)
        return steering

    def _applied(self, steering: Steering | None, default: Steering | None = None) -> Steering:
        if steering is None:
            return self.steering if default is None or self._has_own else default
        check_settings(steering)
        if not steering.off:
            steering.range(self.target.n_rows)
        return steering

    def _check_vectors(self, steering: Steering) -> None:
        vectors = self._applied_control_vectors(steering)
        if self.generator is None and not vectors:
            raise UsageError("no generator is loaded, so the target cannot be steered; name one with `bundle=...`")
        self._sum(vectors)

    def _steered(
        self, vector: GivenVector | None, steering: Steering | None
    ) -> tuple[TaskVector | None, ScaledVector | None, Steering]:
        """A vector given with a query, the same for records, and how the answer is steered.

        Raises:
            NotFoundError: no such file.
            VectorError: it does not fit the target, or a file that is not a control vector.
            UsageError: an engine that is closed, or a steering that has control vectors as well.
        """
        if vector is None:
            return None, None, self.checked_steering(steering)
        self.check_open()
        default = Steering()
        if isinstance(vector, str | Path):
            vector = read_control_vector(as_path("vector", vector))
        if isinstance(vector, ControlVector):
            vector.check_target(self.target.spec)
            source = ScaledVector(vector)
            default = Steering(positions=trained_positions([source]))
            made = vector.vector(self.target.n_rows)
        else:
            made = vector if isinstance(vector, TaskVector) else TaskVector(vector)
            source = ScaledVector(ControlVector.of(made))
        self.target.check_vector(made)
        steering = self._applied(steering, default)
        if steering.control_vectors:
            raise UsageError("`vector` takes the place of the control vectors of `steering`; leave one of them out")
        return made, source, steering


def _checked_sum(vectors: tuple[ScaledVector, ...], target: Target) -> TaskVector:
    for scaled in vectors:
        scaled.vector.check_target(target.spec)
    return sum_control_vectors(vectors, target.n_rows, target.n_embd)
