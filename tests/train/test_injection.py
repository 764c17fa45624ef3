"""Steering in llama.cpp equals PyTorch hooks on the same dequantised weights, for every word in `Positions`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from atv_local.answer.engine import Engine
from atv_local.target.target import Target
from atv_local.vectors.steering import Positions, Steering
from atv_local.vectors.task_vector import TaskVector
from atv_train.examples import Example
from atv_train.frozen_target.frozen_target import FrozenTarget
from atv_train.frozen_target.injection import decoder_blocks, injected, position_mask
from atv_train.frozen_target.prefix_cache import PrefixCache
from atv_train.frozen_target.weights import load_target

CPU = torch.device("cpu")
QUERY = "which of these two is the better one"


def llama_cpp_logits(
    target: Target, prompt: list[int], answer: list[int], vector: TaskVector, how: Positions
) -> NDArray:
    """Logits [len(answer)+1, n_vocab] at the last prompt token and at each token of a given answer."""
    target.reset()
    if how.prefix:
        target.apply(vector)
    target.prefill(prompt[:-1]) if not how.prefix else target.evaluate(prompt[:-1])
    target.apply(vector)
    rows = [target.evaluate(prompt[-1:]).copy()]
    if not how.generated:
        target.clear()
    rows += [target.evaluate([token]).copy() for token in answer]
    target.clear()
    return np.stack(rows)


def pytorch_logits(
    model: PreTrainedModel, prompt: list[int], answer: list[int], vector: TaskVector, how: Positions
) -> NDArray:
    """The same from one forward pass with hooks."""
    mask = position_mask([len(prompt)], [len(prompt) + len(answer)], how, CPU)
    with torch.no_grad(), injected(decoder_blocks(model), torch.tensor(vector.array[None]), mask):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 :]
    return logits.numpy()


def cosines(a: NDArray, b: NDArray) -> NDArray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_a_prompt_vector(tiny_gguf: Path, target: Target) -> None:
    """Training injects two vectors where an engine applies them."""
    prompt, answer = target.prompts(QUERY), [70, 80, 90, 266]
    rows = np.random.default_rng(1).normal(0, 1, (2, 3, 64)).astype(np.float32)
    engine = Engine(target)
    frozen = FrozenTarget(load_target(tiny_gguf, torch.float32, CPU), Positions.ALL, n_vectors=2)
    example = Example(0, QUERY, "", prompt.tokens, tuple(answer))
    other = Example(1, "another one", "", target.prompts("another one").tokens, (70,))
    with torch.no_grad():
        vectors = torch.from_numpy(np.stack([rows, rows[::-1]]).reshape(2, 6, 64))
        logits = frozen.answer_logits([example, other], vectors)[0].numpy()[: len(answer)]

    def llama_cpp(vector: TaskVector) -> NDArray:
        events = engine.stream(QUERY, vector=vector, steering=Steering(positions="all"), max_tokens=2)
        next(events)
        found = [target.logits().copy()]
        events.close()
        target.prefill()
        target.apply(vector.at_prompt)
        target.evaluate(prompt.tokens[:-1])
        target.apply(vector)
        found.append(target.evaluate(prompt.tokens[-1:]).copy())
        found += [target.evaluate([token]).copy() for token in answer[:-1]]
        target.clear()
        assert np.abs(found[0] - found[1]).max() < 0.02 * np.abs(found[0]).max()
        return np.stack(found[1:])

    assert np.abs(llama_cpp(TaskVector(*rows)) - logits).max() < 0.02 * np.abs(logits).max()
    for wrong in (TaskVector(rows[0]), TaskVector(rows[1]), TaskVector(*rows[::-1])):
        assert np.abs(llama_cpp(wrong) - logits).max() > 0.1 * np.abs(logits).max()


@pytest.mark.parametrize("how", list(Positions))
def test_tiny_target(tiny_gguf: Path, target: Target, how: Positions) -> None:
    prompt, answer = list(target.prompts(QUERY).tokens), [70, 80, 90, 266]
    vector = TaskVector(np.random.default_rng(1).normal(0, 1, (3, 64)))
    ours = llama_cpp_logits(target, prompt, answer, vector, how)
    model = load_target(tiny_gguf, torch.float32, CPU)
    theirs = pytorch_logits(model, prompt, answer, vector, how)
    assert (
        np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()
    )  # llama.cpp keeps keys and values in half precision
    others = [pytorch_logits(model, prompt, answer, vector, other) for other in Positions if other != how]
    for other in others:  # the test can tell the three modes apart
        assert np.abs(ours - other).max() > 0.1 * np.abs(theirs).max()


def test_smollm2(smollm2: Path) -> None:
    target, model = Target(smollm2), load_target(smollm2, torch.float32, CPU)
    prompt, answer = list(target.prompts(QUERY).tokens), [504, 808, 282, 2]
    vector = TaskVector(np.random.default_rng(1).normal(0, 2, (29, 576)))
    steered = {how: pytorch_logits(model, prompt, answer, vector, how) for how in Positions}
    for how in Positions:
        ours = llama_cpp_logits(target, prompt, answer, vector, how)
        assert cosines(ours, steered[how]).min() > 0.99
        for other in set(Positions) - {how}:
            assert cosines(ours, steered[other]).min() < 0.97


@pytest.mark.parametrize("how", list(Positions))
def test_the_engine_injects_as_the_word_says(engine: Engine, how: Positions) -> None:
    """Greedy tokens of `stream` are the argmax of the logits under that injection."""
    vector = TaskVector(np.random.default_rng(2).normal(0, 1, (3, 64)))
    steering = Steering(positions=how)
    events = list(engine.stream(QUERY, vector=vector, steering=steering, max_tokens=6))
    prompt = list(engine.target.prompts(QUERY).tokens)
    tokens: list[int] = []
    for _ in range(6):
        logits = llama_cpp_logits(engine.target, prompt, tokens, vector, how)
        tokens.append(int(logits[-1].argmax()))
        if engine.target.vocabulary.ends(tokens[-1]):
            break
    pieces = b"".join(engine.target.vocabulary.piece(token) for token in tokens)
    assert "".join(event.text for event in events) == pieces.decode("utf-8", "replace")


@pytest.mark.parametrize("how", [Positions.LAST, Positions.DECODE])
@pytest.mark.parametrize("room", [(0, 0), (1 << 30, 0), (20_000, 1 << 30)])
@pytest.mark.parametrize("split", [True, False])
def test_training_through_kept_prefixes_equals_one_whole_pass(
    tiny_gguf: Path, how: Positions, room: tuple[int, int], split: bool
) -> None:
    """Whether prefixes are computed again, in memory, or partly on disk, and in our attention or the model's own."""
    model = load_target(tiny_gguf, torch.float32, CPU)
    examples = [
        Example(0, "", "", tuple(range(60, 70)), (70, 80, 4)),
        Example(1, "", "", (60, 61, *range(100, 140)), (90, 4)),
        Example(2, "", "", tuple(range(60, 64)), (70, 71, 72, 73, 4)),
    ]
    vectors = torch.randn(3, 3, 64, generator=torch.Generator().manual_seed(0))
    cache = PrefixCache(*room)
    frozen = FrozenTarget(model, how, cache, split_attention=split)
    frozen.cache_prefixes(examples)
    assert len(cache) == (3 if any(room) else 0)
    logits, labels = frozen.answer_logits(examples, vectors)
    start = 0
    for example, vector in zip(examples, vectors, strict=True):
        size = len(example.answer)
        expected = pytorch_logits(
            model, list(example.prompt), list(example.answer[:-1]), TaskVector(vector.numpy()), how
        )
        assert np.allclose(logits[start : start + size], expected, atol=1e-4)
        assert labels[start : start + size].tolist() == list(example.answer)
        start += size
