"""What steers the answers of a target: generators, control vectors, or a vector given with the query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from atv_local.answer.asked import Asked, ask
from atv_local.answer.fitted_prompts import fitted_prompts
from atv_local.answer.given_vector import CheckedVector, GivenVector
from atv_local.answer.queries import check_queries, check_query, check_settings
from atv_local.answer.router import GatedVector, Generators, Route, Router, as_generators
from atv_local.data import as_template_variables
from atv_local.errors import UsageError
from atv_local.generator import Generator, TaskSpec
from atv_local.target import PromptFormat, Target
from atv_local.vectors import (
    OFF,
    ControlVector,
    GateDecision,
    ScaledVector,
    Steering,
    TaskVector,
    VectorSources,
    mean_control_vector,
    scaled_vectors,
    sum_control_vectors,
    trained_positions,
)


class SteeredTarget:
    """A target and what makes the vectors that steer it. `Engine` answers queries with it.

    Args:
        target: what they steer.
        generator: reads each query and makes its vector. Of several, the one whose gate accepts the query best; one
            without a gate takes the queries that no gate accepts.
        control_vectors: added to the vector of every query, or used alone, unless a steering has others.
        steering: used where no other is given; by default that of the bundle, or else of the control vectors.
        template_variables: values for variables of the chat template, before those that the bundle was trained with.

    Raises:
        ModelError: a chat template that cannot be used.
        BundleError: a generator made for another target.
        VectorError: a control vector made for another target.
        UsageError: something else than a `Target`, `Generator`, `Steering` or control vectors, a target that is closed,
            layers that it does not have, or generators that cannot share a target; see `Router` and `fitted_prompts`.
    """

    def __init__(
        self,
        target: Target,
        generator: Generators,
        control_vectors: VectorSources,
        steering: Steering | None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(target, Target):
            raise UsageError(f"`target` {target!r} is not a Target; load files with atv_local.load")
        target.check_open()
        self.target = target
        generators = as_generators(generator)
        self._router = Router(generators) if generators else None
        self._control_vectors = scaled_vectors(control_vectors)
        self._sum = lru_cache(maxsize=8)(lambda vectors: _checked_sum(vectors, target))
        self._sum(self.control_vectors)  # one that does not fit raises now
        for one in generators:
            one.bundle.check_target(target.spec)
        if steering is not None:
            check_settings(steering)
        self._steering = self._default_steering() if steering is None else steering
        self._has_own = steering is not None or bool(generators) or bool(self.control_vectors)
        """Whether `steering` says how to steer, rather than that there is nothing to steer by."""
        if not self._steering.off:
            self._steering.range(target.n_rows)
        self._prompt_format = fitted_prompts(target, generators, as_template_variables(template_variables))

    def _default_steering(self) -> Steering:
        vectors = self.control_vectors
        if self.generator is None:
            return Steering(positions=trained_positions(vectors)) if vectors else OFF
        return replace(self.generator.steering, layers=None) if vectors else self.generator.steering

    @property
    def generators(self) -> tuple[Generator, ...]:
        """What makes the vectors of queries."""
        return self._router.generators if self._router else ()

    @property
    def generator(self) -> Generator | None:
        """The only generator, or the first of several."""
        return self.generators[0] if self.generators else None

    @property
    def has_gate(self) -> bool:
        """Whether a bundle decides which queries it steers."""
        return any(generator.has_gate for generator in self.generators)

    @property
    def bundle_names(self) -> dict[str, str]:
        """What to call the bundles, by their ids."""
        return self._router.names if self._router else {}

    def chosen_generator(self, gate: GateDecision | None) -> Generator | None:
        """The generator of the vector of a query with this decision; None where the gates of several are closed."""
        return self._router.chosen(gate) if self._router else None

    def applied_steering(self, gate: GateDecision | None, steering: Steering) -> Steering:
        """How an answer with this decision is steered.

        Of several bundles each has its own strength, layers and positions, but for those in `steering` that are not the
        first bundle's, which hold for all.
        """
        generator = self.chosen_generator(gate)
        return steering if generator is None else self._steering_for(generator, steering)

    def steers_prefix(self, steering: Steering) -> bool:
        """Whether a vector may steer tokens before the last one of a prompt."""
        if steering.off:
            return False
        steerings = [steering, *(self._steering_for(generator, steering) for generator in self.generators)]
        return any(one.positions.prefix for one in steerings)

    def gate_decisions(self, query: str, *, steering: Steering | None = None) -> list[GateDecision]:
        """What every gate decides on a query, in the order of the generators.

        Raises:
            UsageError: as `vector`.
        """
        self.check_open()
        check_query(query)
        steering = self.steering if steering is None else steering
        return self._router.decisions(query, steering.gate) if self._router else []

    def _steering_for(self, generator: Generator, steering: Steering) -> Steering:
        assert self._router is not None
        vectors = self._applied_control_vectors(steering)
        return self._router.steering_for(generator, steering, beside_vectors=bool(vectors))

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

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """What the bundle was trained on; those with an instruction can be named."""
        return self._router.tasks if self._router else ()

    @property
    def instructions(self) -> Mapping[str, str]:
        """What is read before the queries of the tasks that were trained with an instruction."""
        return self._router.instructions if self._router else {}

    def asked(
        self,
        query: str,
        *,
        task: str | None = None,
        instruction: str | None = None,
        choices: Sequence[str] = (),
        listed: Sequence[str] = (),
        steering: Steering | None = None,
    ) -> Asked:
        """What generator and target read for a query, and how it is then steered.

        That is the query after an instruction, if one is named or given. A bundle that was trained with instructions
        then steers it whatever its gate decides, unless `steering` has another score than the bundle's. A bundle whose
        only task has an instruction puts it before every query that its gate lets pass after it; others are read alone,
        and answered by the base model. Anything else is the query alone.

        Args:
            query: the user's words.
            task: of the bundle, whose instruction is read.
            instruction: what to do with the query, in words.
            choices: allowed answers, of which the answer is one; they are listed after the instruction.
            listed: in place of them, allowed answers that the instruction lists and that do not restrict the answer.
            steering: by default `self.steering`.

        Raises:
            UsageError: as `vector`; also a task without an instruction, or both a task and an instruction.
        """
        self.check_open()
        check_query(query)
        steering = self.steering if steering is None else steering
        check_settings(steering)
        return ask(query, self._router, steering, task=task, instruction=instruction, choices=choices, listed=listed)

    def vector(
        self,
        query: str,
        *,
        task: str | None = None,
        instruction: str | None = None,
        steering: Steering | None = None,
    ) -> TaskVector:
        """The vector of a query, float32 [n_layer-1, n_embd], whether the gate lets it steer or not.

        Args:
            query: the user's words, as they would be answered.
            task: of the bundle, whose instruction is read before the query.
            instruction: what to do with the query, in words.
            steering: its control vectors are part of the vector, its strength and layers are not; by default
                `self.steering`.

        Raises:
            UsageError: an empty query, one that is not Unicode text, or an engine that is closed or has nothing to
                steer by.
            VectorError: a control vector made for another target.
        """
        steering = replace(self.steering if steering is None else steering, gate=0.0)
        asked = self.asked(query, task=task, instruction=instruction, steering=steering)
        vector = self.gated(asked, forced=True).vector
        assert vector is not None  # `gated_vector` raises if there is nothing to steer by
        return vector

    def gated(self, asked: Asked, *, forced: bool = False) -> GatedVector:
        """What steers the answer to what is asked; `forced` and errors are those of `gated_vector`."""
        if asked.route is None:
            return self.gated_vector(asked.text, steering=asked.steering, forced=forced)
        return replace(self._gated(asked.route, asked.steering, forced), spent_ms=asked.route_ms)

    def gated_vector(self, query: str, *, steering: Steering | None = None, forced: bool = False) -> GatedVector:
        """What steers the answer to a query: its vector, if the gate lets it, and the control vectors.

        Args:
            query: the user's words, as they would be answered.
            steering: its gate and its control vectors are used, its strength and layers are not; by default
                `self.steering`.
            forced: give the vector of a query that the gate does not let pass, too.

        Raises:
            UsageError, VectorError: as `vector`.
        """
        self.check_open()
        check_query(query)
        steering = self.steering if steering is None else steering
        check_settings(steering)
        self._check_vectors(steering)
        if self._router is None:
            return GatedVector(self._sum(self._applied_control_vectors(steering)), steering)
        return self._gated(self._router.route(query, steering.gate), steering, forced)

    def _gated(self, route: Route, steering: Steering, forced: bool) -> GatedVector:
        vectors = self._applied_control_vectors(steering)
        if not (route.accepted or forced):
            return GatedVector(self._sum(vectors) if vectors else None, steering, route.gate)
        vector = route.vector
        if vectors:
            layers = route.generator.steering.layers
            vector = (vector.only(*layers) if layers else vector) + self._sum(vectors)
        return GatedVector(vector, self._steering_for(route.generator, steering), route.gate, route.generator)

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
        if len(self.generators) == 1 and not self.instructions and not self._applied_control_vectors(steering):
            return self.generators[0].control_vector(queries, steering=steering)  # which names its bundle
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
        checked = CheckedVector.of(vector, self.target)
        steering = self._applied(steering, checked.steering)
        if steering.control_vectors:
            raise UsageError("`vector` takes the place of the control vectors of `steering`; leave one of them out")
        return checked.vector, checked.source, steering


def _checked_sum(vectors: tuple[ScaledVector, ...], target: Target) -> TaskVector:
    for scaled in vectors:
        scaled.vector.check_target(target.spec)
    return sum_control_vectors(vectors, target.n_rows, target.n_embd)
