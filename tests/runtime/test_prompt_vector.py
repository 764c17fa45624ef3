"""A second vector for the prompt's tokens: arithmetic, where it is applied, alone and in a batch, in files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atv_local.answer.engine import Engine
from atv_local.batch.batch import Batch
from atv_local.batch.question import BatchQuestion, SteeredPrompt
from atv_local.errors import VectorError
from atv_local.vectors.query_mean import mean_control_vector
from atv_local.vectors.steering import Positions, Steering
from atv_local.vectors.task_vector import TaskVector

QUERIES = ("a fruit or a beast", "which one", "x")
EVERYWHERE = Steering(positions=Positions.ALL)
NUMBERS = st.floats(-4, 4, width=32)


def pair(seed: int = 0, scale: float = 1.0) -> TaskVector:
    return TaskVector(*np.random.default_rng(seed).normal(0, scale, (2, 3, 64)))


@given(factor=NUMBERS, seed=st.integers(0, 9))
def test_arithmetic_is_that_of_both_vectors(factor: float, seed: int) -> None:
    one, plain = pair(seed), TaskVector(pair(seed + 1).array)
    assert one.prompt is not None
    for result, array, prompt in (
        (factor * one, factor * one.array, factor * one.prompt.array),
        (one + plain, one.array + plain.array, one.prompt.array + plain.array),
        (plain - one, plain.array - one.array, plain.array - one.prompt.array),
        (-one, -one.array, -one.prompt.array),
        (one.only(2, 3), one.only(2, 3).array, one.prompt.only(2, 3).array),
    ):
        assert result.prompt is not None
        np.testing.assert_array_equal(result.array, array)
        np.testing.assert_array_equal(result.prompt.array, prompt)


def test_copies_and_comparison() -> None:
    one = pair()
    for same in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), TaskVector(one.array, one.prompt)):
        assert same == one
    assert one != TaskVector(one.array)
    assert TaskVector(one.array) == TaskVector(one.array, one.array)
    assert one != one.array
    with pytest.raises(VectorError, match=r"\[2, 64\]"):
        TaskVector(one.array, np.zeros((2, 64)))


def test_it_steers_the_prompt_with_positions_all_alone(engine: Engine) -> None:
    plain = TaskVector(pair().array)
    for positions in Positions:
        steering = Steering(positions=positions)
        answers = {engine.answer(QUERIES[0], vector=v, steering=steering).text for v in (pair(), plain)}
        assert len(answers) == (2 if positions.prefix else 1)


def test_a_batch_answers_and_scores_as_one_by_one(engine: Engine) -> None:
    prompts = engine.target.prompts
    ways = [
        SteeredPrompt(),
        *(
            SteeredPrompt.of(Steering(positions=positions), vector)
            for vector in (pair(), TaskVector(pair().array))
            for positions in Positions
        ),
    ]
    options = [prompts.answer("", text) for text in ("a", "b")]
    questions = [BatchQuestion(prompts(query), ways, 8, options) for query in QUERIES]
    with Batch(engine) as batch:
        together = [reply.outcomes for reply in batch.ask(questions)]
        for question, outcomes in zip(questions, together, strict=True):
            for way, outcome in zip(ways, outcomes, strict=True):
                alone = BatchQuestion(question.prompt, [way], 8, options)
                (lone,) = next(batch.ask([alone])).outcomes
                assert lone.tokens == outcome.tokens
                assert lone.options == pytest.approx(outcome.options, abs=1e-4)
    texts = [engine.answer(query, vector=pair(), steering=EVERYWHERE, max_tokens=8).text for query in QUERIES]
    assert texts == [outcomes[1].text for outcomes in together]


def test_a_control_vector_of_it_steers_from_the_last_prompt_token_on(engine: Engine, tmp_path: Path) -> None:
    vector = mean_control_vector(lambda _: pair(), ["q"], EVERYWHERE, engine.target.spec)
    assert vector.provenance["positions"] == "decode"
    vector.save(tmp_path / "mean.gguf")
    decode = engine.answer("q", vector=pair(), steering=Steering()).text
    assert engine.answer("q", vector=tmp_path / "mean.gguf", steering=Steering()).text == decode
