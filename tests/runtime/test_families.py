"""Families of models beside Llama: each is steered, and answers the same one by one and together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atv_local.answer.engine import Engine
from atv_local.batch.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.target.target import Target
from atv_local.vectors.steering import OFF, Positions, Steering
from atv_local.vectors.task_vector import TaskVector
from tests.tiny import write_gguf, write_gpt2

LONGROPE = {"type": "longrope", "original": 512, "short": [1.0] * 8, "long": [30.0] * 8}
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "llama": write_gguf,
    "gpt2": write_gpt2,
    "gemma2": lambda path: write_gguf(path, architecture="gemma2"),
    "experts": lambda path: write_gguf(path, architecture="qwen3moe"),
    "longrope": lambda path: write_gguf(path, n_ctx=2048, rope=LONGROPE),
}
QUERIES = ("what is a fig", "a cow")


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = FAMILIES[request.param](tmp_path_factory.mktemp("family") / f"{request.param}.gguf")
    return Engine(Target(path, n_ctx=512, n_threads=1))


@pytest.mark.parametrize("positions", list(Positions))
def test_answers_one_by_one_and_together_are_the_same(engine: Engine, positions: Positions) -> None:
    target = engine.target
    vector = TaskVector(np.random.default_rng(0).normal(0, 3.0, (target.n_rows, target.n_embd)))
    styles = (OFF, Steering(1.0, None, positions))
    ways = [SteeredPrompt.of(style, vector) for style in styles]
    with Batch(engine) as batch:
        replies = list(batch.ask([BatchQuestion(engine.target.prompts(query), ways, 8) for query in QUERIES]))
    together = [[outcome.text for outcome in reply.outcomes] for reply in replies]
    alone = [
        [engine.answer(query, vector=vector, steering=style, max_tokens=8).text for style in styles]
        for query in QUERIES
    ]
    assert together == alone
    assert any(off.tokens != on.tokens for off, on in (reply.outcomes for reply in replies))


@pytest.mark.parametrize(("end", "wanted"), [("<|im_start|>", "ab"), ("<|im_start|>{{ '\n' }}", " ab")])
def test_the_space_that_sentencepiece_puts_before_a_text_is_not_in_the_answer(
    tmp_path: Path, end: str, wanted: str
) -> None:
    path = write_gguf(tmp_path / "spm.gguf", template="{{ messages[-1]['content'] }}<|im_end|>" + end)
    engine = Engine(Target(path, n_threads=1))
    assert engine.answer("hi", grammar='root ::= " ab"').text == wanted
    with Batch(engine) as batch:
        (answer,) = batch.answer(["hi"], grammar='root ::= " ab"')
    assert answer.text == wanted
    if wanted == "ab":
        tokens = engine.target.prompts.answer("hi", "ab")
        assert engine.target.vocabulary.text(tokens[:-1]) == " ab"
