"""Chooses among several generators the one that makes the vector of a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from atv_local.data import is_iterable
from atv_local.errors import UsageError
from atv_local.generator import Generator, TaskSpec
from atv_local.vectors import GATES, GateDecision, Steering, TaskVector

Generators = Generator | Sequence[Generator] | None
"""One generator, several that share a target, or none."""


@dataclass(frozen=True)
class GatedVector:
    """What steers the answer to one query.

    Attributes:
        vector: None for the base model, where the gate is closed and there are no control vectors.
        steering: how it is applied: of several bundles, as the one recommends that made it.
        gate: of the bundle, if that has one.
        generator: what made the vector, but for control vectors.
        spent_ms: milliseconds that were spent on it before.
    """

    vector: TaskVector | None
    steering: Steering
    gate: GateDecision | None = None
    generator: Generator | None = None
    spent_ms: float = 0.0

    @property
    def rows(self) -> TaskVector | None:
        """The values for llama.cpp to add, with strength and layers applied."""
        return None if self.vector is None else self.steering.apply(self.vector)


@dataclass(frozen=True)
class Route:
    """The generator that fits a query best, and the vector that it makes.

    Attributes:
        generator: the one whose gate accepts the query with the highest score, else the one without a gate, else the
            one whose gate gives the highest score.
        vector: of the query.
        gate: of that generator, if it has one.
        static: whether the vector is the static one of the bundle.
    """

    generator: Generator
    vector: TaskVector
    gate: GateDecision | None
    static: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the generator accepts the query."""
        return self.gate is None or self.gate.steered

    @property
    def score(self) -> float:
        """How well the query fits, from 0 to 1."""
        return self.gate.score if self.gate else 0.0


class Router:
    """Generators made for one target.

    Args:
        generators: at least one, each of another bundle. Of equal scores the first one's counts.

    Raises:
        UsageError: the same bundle twice, two bundles without a gate, as each would accept every query, or several with
            one that is told its tasks in words.
    """

    def __init__(self, generators: Sequence[Generator]) -> None:
        self.generators = tuple(generators)
        ids = [generator.bundle.id for generator in generators]
        for place, generator in enumerate(generators):
            if generator.bundle.id in ids[:place]:
                raise UsageError(f"the bundle {generator.bundle.path} is given twice; give it once")
        told = [one for one in generators if _is_told(one)]
        if told and len(generators) > 1:
            raise UsageError(
                f"{told[0].bundle.path} is told its tasks in words, by which a query is not chosen among bundles; load "
                "it alone"
            )
        ungated = [generator for generator in generators if not generator.has_gate]
        self._ungated = ungated[0] if ungated else None
        if len(ungated) > 1:
            names = " and ".join(str(generator.bundle.path) for generator in ungated[:2])
            raise UsageError(
                f"of several bundles at most one can be without a gate, and {names} have none; leave one of them out, "
                "or train it with a gate"
            )

    @property
    def names(self) -> dict[str, str]:
        """What to call the bundles, by their ids: by their folders, with the id where two have the same name."""
        names = {generator.bundle.id: generator.bundle.path.resolve().name for generator in self.generators}
        seen = Counter(names.values())
        return {one: name if seen[name] == 1 else f"{name} ({one})" for one, name in names.items()}

    @property
    def instructions(self) -> Mapping[str, str]:
        """What the tasks of the only bundle ask that were trained with an instruction."""
        return self.generators[0].bundle.manifest.instructions

    @property
    def told(self) -> bool:
        """Whether the bundle was trained to be told its tasks in words."""
        return _is_told(self.generators[0])

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """Those of the only bundle, of which some may have an instruction."""
        return self.generators[0].bundle.manifest.tasks

    @property
    def only_task(self) -> TaskSpec | None:
        """That of a bundle with one, if it has an instruction."""
        return self.generators[0].bundle.manifest.only_task

    def route(self, query: str, threshold: float) -> Route:
        """The generator of a query, which has to score `threshold` at a gate to be accepted.

        A generator without a gate runs only if none with a gate accepts the query. Errors are those of a generator.
        """
        best = max(self._gated_routes(query, threshold), key=lambda route: route.score, default=None)
        if best is not None and best.accepted:
            return best
        if self._ungated is not None:
            return self._route(self._ungated, query, threshold)
        assert best is not None  # of at least one generator
        return best

    def route_of_words(self, text: str, *, restricted: bool) -> Route | None:
        """How a query is steered after an instruction in words: as any other where it is like the tasks of the bundle,
        else by the bundle's static vector. None for a bundle without one.

        That vector has learned to answer in the form that is asked for, which a `restricted` answer has already, so
        that the gate stays closed for it (docs/explanation/results.md).
        """
        generator = self.generators[0]
        if generator.static is None:
            return None
        route = self._route(generator, text, GATES["auto"])
        return route if route.accepted or restricted else Route(generator, generator.static, None, static=True)

    def decisions(self, query: str, threshold: float) -> list[GateDecision]:
        """The decision of every gate, in the order of the generators; see `route`."""
        return [route.gate for route in self._gated_routes(query, threshold) if route.gate]

    def chosen(self, gate: GateDecision | None) -> Generator | None:
        """The generator that steers a query with this decision; None where every gate of several is closed."""
        if len(self.generators) == 1:
            return self.generators[0]
        if gate is None:
            return self._ungated
        return next((one for one in self.generators if gate.steered and one.bundle.id == gate.bundle), None)

    def steering_for(self, generator: Generator, steering: Steering, *, beside_vectors: bool) -> Steering:
        """How one of the generators steers, where `steering` is wanted.

        Strength, layers and positions that are those of the first bundle are each bundle's own; others were asked for,
        and hold for all.

        Args:
            generator: one of them.
            steering: as it is wanted.
            beside_vectors: whether control vectors steer too, which take all layers.
        """
        if generator is self.generators[0]:
            return steering
        first, own = self.generators[0].steering, generator.steering
        if beside_vectors:
            first, own = replace(first, layers=None), replace(own, layers=None)
        n_rows, _ = generator.shape
        return replace(
            steering,
            strength=own.strength if steering.strength == first.strength else steering.strength,
            layers=own.layers if steering.range(n_rows) == first.range(n_rows) else steering.layers,
            positions=own.positions if steering.positions == first.positions else steering.positions,
        )

    def _gated_routes(self, query: str, threshold: float) -> list[Route]:
        return [self._route(generator, query, threshold) for generator in self.generators if generator.has_gate]

    def _route(self, generator: Generator, query: str, threshold: float) -> Route:
        vector, score = generator.scored(query)
        if score is None:
            return Route(generator, vector, None)
        bundle = generator.bundle.id if len(self.generators) > 1 else None
        return Route(generator, vector, GateDecision(score.task, score.score, threshold, bundle))


def _is_told(generator: Generator) -> bool:
    return bool(generator.bundle.manifest.instructions) or generator.bundle.manifest.static


def as_generators(given: Generators) -> tuple[Generator, ...]:
    """Generators as a tuple, none for None.

    Raises:
        UsageError: something else.
    """
    if given is None or isinstance(given, Generator):
        return () if given is None else (given,)
    generators: tuple[object, ...] = tuple(given) if is_iterable(given) else (given,)
    return tuple(map(_checked_generator, generators))


def _checked_generator(generator: object) -> Generator:
    if not isinstance(generator, Generator):
        raise UsageError(f"`generator` {generator!r} is not a Generator; load files with atv_local.load")
    return generator
