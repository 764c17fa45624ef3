"""Greedy answers in PyTorch: those that teacher forcing implies, in every batch, position mode and attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atv_local import Positions
from atv_train.examples import Example
from atv_train.frozen_target import FrozenTarget, PrefixCache, greedy_answers
from atv_train.frozen_target.weights import load_target

LIMITS = [9, 5, 12]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Prompts of different lengths."""
    return [Example(n, "", "t", tuple(range(60 + n, 60 + 3 * n + 4)), (70,)) for n in range(3)]


@pytest.mark.parametrize(
    ("positions", "n_vectors", "split"),
    [*((positions, 1, split) for positions in Positions for split in (True, False)), (Positions.ALL, 2, False)],
)
def test_answers_are_those_of_teacher_forcing(
    tiny_gguf: Path, examples: list[Example], positions: Positions, n_vectors: int, split: bool
) -> None:
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    target = FrozenTarget(model, positions, PrefixCache(1 << 30), split_attention=split, n_vectors=n_vectors)
    target.cache_prefixes(examples)
    vectors = torch.randn(3, *target.vector_shape, generator=torch.Generator().manual_seed(3))
    answers = greedy_answers(target, examples, vectors, LIMITS, ends=lambda _: False)
    assert [len(answer) for answer in answers] == LIMITS
    forced = [replace(example, answer=tuple(answer)) for example, answer in zip(examples, answers, strict=True)]
    with torch.no_grad():
        logits, labels = target.answer_logits(forced, vectors)
    assert torch.equal(logits.argmax(dim=-1), labels)
    alone = greedy_answers(target, examples[1:2], vectors[1:2], LIMITS[1:2], ends=lambda _: False)
    assert alone == answers[1:2]
    end = answers[2][3]
    ended = greedy_answers(target, examples, vectors, LIMITS, ends=lambda token: token == end)
    assert ended[2] == answers[2][: answers[2].index(end) + 1]
    off = greedy_answers(target, examples, target.zeros(3), LIMITS, ends=lambda _: False)
    assert off != answers


def test_vectors_reach_the_tokens_that_the_positions_name(tiny_gguf: Path, examples: list[Example]) -> None:
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    vectors = torch.randn(3, 3, 64, generator=torch.Generator().manual_seed(3))
    targets = [FrozenTarget(model, positions) for positions in Positions]
    answers = [greedy_answers(target, examples, vectors, LIMITS, ends=lambda _: False) for target in targets]
    assert len({str(answer) for answer in answers}) == len(Positions)
