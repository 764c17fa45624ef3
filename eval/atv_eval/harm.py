"""Measures what steering, and noise of the same size, changes in answers to unrelated queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from atv_local.answer import Asked, Engine
from atv_local.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.errors import ModelError
from atv_local.target import kl_divergence
from atv_local.vectors import Steering, TaskVector, random_vector

N_TOKENS = 16
"""Tokens of the base model's answer over which the distributions are compared."""

_PARALLEL = 24  # each answer keeps its distributions until its query is done


@dataclass(frozen=True)
class Harm:
    """Over all queries: how far the target is from its unsteered self."""

    kl: float
    """KL(base || steered) in nats per token of the base model's own answer."""
    agreement: float
    """Share of those tokens that stay the most likely ones."""
    same: float
    """Share of queries answered as without steering, word for word in the first tokens."""
    n_queries: int
    n_steered: int | None = None
    """Queries that the gate lets through; None for a bundle without one."""


def measure_harm(engine: Engine, queries: Sequence[str], steerings: Sequence[Steering], seed: int = 0) -> list[Harm]:
    """The harm of each steering, and last that of a random vector with the row norms of the first one's.

    Raises:
        AtvError: a query that cannot be evaluated.
    """
    batch = Batch(engine, parallel=max(_PARALLEL, len(steerings) + 2))
    prompts, n_ways = engine.prompts, len(steerings) + 2
    rng = np.random.default_rng(seed)
    steered: list[bool] = []

    def ways(asked: Asked) -> list[SteeredPrompt]:
        gated = engine.gated(asked)
        steered.append(gated.gate is None or gated.gate.steered)
        if (vector := gated.vector) is None:
            return [SteeredPrompt()]  # all would be alike
        noise = random_vector(*vector.shape, seed=rng, norms=vector.norms())
        if vector.prompt is not None:
            noise = TaskVector(noise, random_vector(*vector.shape, seed=rng, norms=vector.prompt.norms()))
        return [
            SteeredPrompt(),
            *(SteeredPrompt.of(engine.applied_steering(gated.gate, steering), vector) for steering in steerings),
            SteeredPrompt.of(gated.steering, noise),
        ]

    read = [engine.asked(query, steering=steerings[0]) for query in queries]
    asked = [BatchQuestion(prompts(one.text), ways(one), N_TOKENS) for one in read]
    texts: list[list[str]] = []
    answers: list[tuple[int, ...]] = []
    for reply in batch.ask(asked):
        if reply.error:
            raise reply.error
        of_query = [outcome.text for outcome in reply.outcomes]
        texts.append(of_query if len(of_query) > 1 else of_query * n_ways)
        answers.append(reply.outcomes[0].tokens)
    compared = list(_compared(batch, asked, answers, n_ways))
    if not compared:
        raise ModelError("the base model answers none of the queries outside the tasks, so nothing can be compared")
    return [
        Harm(
            kl=float(np.mean([kl for query in compared for kl in query[way - 1][0]])),
            agreement=float(np.mean([same for query in compared for same in query[way - 1][1]])),
            same=float(np.mean([of_query[0] == of_query[way] for of_query in texts])),
            n_queries=len(queries),
            n_steered=sum(steered) if engine.has_gate else None,
        )
        for way in range(1, n_ways)
    ]


_Compared = tuple[NDArray[np.float64], NDArray[np.bool_]]


def _compared(
    batch: Batch, questions: Iterable[BatchQuestion], answers: Iterable[tuple[int, ...]], n_ways: int
) -> Iterator[list[_Compared]]:
    """For each query and each way but the first: KL at each token of the first way's answer, and whether it stays."""
    forced = [
        replace(question, options=[answer]) for question, answer in zip(questions, answers, strict=True) if answer
    ]
    distributions = batch.distributions(question for question in forced if len(question.ways) > 1)
    for question in forced:
        if len(question.ways) > 1:
            base, *others = next(distributions)
            yield [_compare(base, other) for other in others]
        else:
            n_tokens = len(question.options[0])
            yield [(np.zeros(n_tokens), np.ones(n_tokens, np.bool_))] * (n_ways - 1)


def _compare(base: NDArray[np.float32], other: NDArray[np.float32]) -> _Compared:
    return kl_divergence(base, other), base.argmax(axis=1) == other.argmax(axis=1)
