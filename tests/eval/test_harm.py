"""What steering does to queries outside the task, against the logits themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atv_eval.harm import measure_harm
from atv_local.answer.engine import Engine
from atv_local.batch import batch, question_tree
from atv_local.batch.question import BatchQuestion
from atv_local.generator import Generator
from atv_local.target import Target
from atv_local.vectors.steering import Positions, Steering
from tests.tiny import FRUITS


def test_harm_grows_with_strength_and_of_none_is_none(tiny: Engine) -> None:
    queries = [f"say {word}" for word in FRUITS]
    steerings = [Steering(1e-6), Steering(0.3), Steering(1.0), Steering(0.3, None, Positions.ALL)]
    nearly, some, much, everywhere, random = measure_harm(tiny, queries, steerings)
    assert nearly.kl == pytest.approx(0, abs=1e-4)
    assert nearly.agreement == nearly.same == 1
    assert 0 < some.kl < much.kl
    assert everywhere.kl not in (0, some.kl)
    assert random.kl < 0.01  # of the norms of the first one
    assert {harm.n_queries for harm in (nearly, much)} == {5}


def test_queries_that_the_gate_leaves_count_as_unchanged(
    tiny_gguf: Path, gated_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[BatchQuestion] = []
    trees = question_tree.trees_of
    monkeypatch.setattr(batch, "trees_of", lambda question, *more: (asked.append(question), trees(question, *more))[1])
    inside, outside = ["say fig", "say hen"], ["something else", "nothing of the kind"]
    with Engine(Target(tiny_gguf, n_threads=1), Generator(gated_bundle, tried=True)) as engine:
        steerings = [Steering(), Steering(0.5)]
        mixed = measure_harm(engine, [outside[0], inside[0], outside[1], inside[1]], steerings)
        assert {len(question.ways) for question in asked if question.prompt == engine.prompts(outside[0])} == {1}
        steered = measure_harm(engine, inside, steerings)
        unsteered = measure_harm(engine, outside, steerings)
    for one, alone, none in zip(mixed, steered, unsteered, strict=True):
        assert (none.kl, none.agreement, none.same, none.n_steered) == (0, 1, 1, 0)
        assert one.same == (1 + alone.same) / 2
        assert 0 < one.kl < alone.kl
        assert (one.n_steered, alone.n_steered) == (2, 2)


def test_kl_is_that_of_the_logits(tiny: Engine) -> None:
    query, steering = "say fig", Steering(0.5)
    harm = measure_harm(tiny, [query], [steering])[0]
    prompt = tiny.target.prompts(query)
    target, vector = tiny.target, tiny.vector(query)
    rows: list[list[np.ndarray]] = []
    answer: list[int] = []
    for made in (None, vector):
        target.reset()
        target.prefill(prompt.tokens[: prompt.shared], prompt.tokens[prompt.shared : -1])
        if made is not None:
            target.apply(steering.apply(made))
        logits = [target.evaluate(prompt.tokens[-1:]).astype(np.float64)]
        for step in range(15):
            if made is None:
                answer.append(int(logits[-1].argmax()))
                if target.vocabulary.ends(answer[-1]):
                    answer.pop()
                    break
            elif step == len(answer):
                break
            logits.append(target.evaluate([answer[step]]).astype(np.float64))
        rows.append(logits)
    target.reset()
    n = len(answer) + (len(answer) == 15)
    base, steered = (np.array(side)[:n] for side in rows)
    p, q = (side - np.log(np.exp(side).sum(axis=1, keepdims=True)) for side in (base, steered))
    assert harm.kl == pytest.approx(float((np.exp(p) * (p - q)).sum(axis=1).mean()), rel=1e-3)
